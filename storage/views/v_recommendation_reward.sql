-- Per day (UTC, when slates were made) and policy: what its slates were worth so far. Most are replaced by a newer one
-- before the user looks, so the reward is for each that was seen: that an impression names; for each that was made where
-- no impressions come. The interval is that of a ratio of sums over users, so that slates of one user may depend on each
-- other.
CREATE VIEW v_recommendation_reward AS
WITH parts AS (
    SELECT
        ${made_on} AS day,
        r.policy,
        r.user_id,
        1 AS slates,
        NULL AS place,
        CASE WHEN r.made_at <= ${a_day_ago} THEN 1 ELSE 0 END AS matured,
        0 AS impressions,
        0 AS clicks,
        0.0 AS reward
    FROM recommendations r
    UNION ALL
    SELECT
        ${made_on},
        r.policy,
        r.user_id,
        0,
        CASE WHEN r.impressions > 0
            THEN (r.source_offset * 65536 + r.source_partition) * 128 + r.topic_generation END,
        0,
        r.impressions,
        r.clicks,
        r.reward
    FROM slate_answers r
),
of_users AS (
    SELECT
        day,
        policy,
        sum(slates) AS slates,
        count(DISTINCT place) AS seen,
        sum(matured) AS matured,
        sum(impressions) AS impressions,
        sum(clicks) AS clicks,
        sum(CAST(reward AS DOUBLE PRECISION)) AS reward
    FROM parts
    GROUP BY day, policy, user_id
),
counted AS (
    SELECT of_users.*, CASE WHEN sum(seen) OVER (PARTITION BY day, policy) > 0 THEN seen ELSE slates END AS rewarded
    FROM of_users
),
sums AS (
    SELECT
        day,
        policy,
        CAST(sum(slates) AS BIGINT) AS slates,
        CAST(sum(seen) AS BIGINT) AS seen,
        CAST(sum(matured) AS BIGINT) AS matured,
        count(*) AS users,
        CAST(sum(impressions) AS BIGINT) AS impressions,
        CAST(sum(clicks) AS BIGINT) AS clicks,
        sum(reward) AS reward,
        sum(reward) / sum(rewarded) AS per_slate,
        sum(reward * reward) AS squares,
        sum(reward * rewarded) AS products,
        sum(1.0 * rewarded * rewarded) AS slate_squares
    FROM counted
    GROUP BY day, policy
),
spread AS (
    SELECT sums.*, squares - 2.0 * per_slate * products + per_slate * per_slate * slate_squares AS residual FROM sums
)
SELECT
    day,
    policy,
    slates,
    seen,
    matured,
    users,
    impressions,
    clicks,
    reward,
    per_slate AS reward_per_slate,
    per_slate - ${margin} AS reward_low,
    per_slate + ${margin} AS reward_high
FROM spread
