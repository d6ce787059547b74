-- Each engagement with an item of the slate that it names, and each reward that feedback gave one: what it is worth
-- (as models/engagements.py has it), under the key of the slate and the item's position. What is next to nothing counts
-- as nothing: PostgreSQL gives up where the square of a number is too small to be held. Internal.
CREATE VIEW slate_answers AS
SELECT
    r.day,
    r.topic_generation,
    r.source_partition,
    r.source_offset,
    i.position,
    i.item_id,
    r.occurred_at,
    r.made_at,
    r.policy,
    r.user_id,
    CASE WHEN e.action = 'impression' THEN 1 ELSE 0 END AS impressions,
    CASE WHEN e.action = 'click' THEN 1 ELSE 0 END AS clicks,
    CASE e.action
        WHEN 'click' THEN 1.0
        WHEN 'like' THEN 2.0
        WHEN 'dislike' THEN -2.0
        WHEN 'skip' THEN -0.1
        WHEN 'dwell' THEN CASE
            WHEN e.value >= 60.0 THEN 1.0
            WHEN e.value > 1e-6 THEN e.value / 60.0
            ELSE 0.0
        END
        WHEN 'purchase' THEN 5.0
        ELSE 0.0
    END AS reward
FROM recommendations r
JOIN engagements e ON e.recommendation_id = r.recommendation_id${engaged_by}
${engaged_item}
UNION ALL
SELECT
    r.day,
    r.topic_generation,
    r.source_partition,
    r.source_offset,
    i.position,
    i.item_id,
    r.occurred_at,
    r.made_at,
    r.policy,
    r.user_id,
    0 AS impressions,
    0 AS clicks,
    CASE WHEN abs(f.value) > 1e-9 THEN f.value ELSE 0.0 END AS reward
FROM recommendations r
JOIN feedback f
    ON f.recommendation_id = r.recommendation_id AND f.kind = 'reward' AND f.status = 'joined'${joined_by}
${rewarded_item}
