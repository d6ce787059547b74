-- Per day (UTC, by event time), shadow and champion: the two models on the same events and labels.
CREATE VIEW v_shadow_daily AS
SELECT
    ${occurred_on} AS day,
    s.model AS shadow,
    p.model AS champion,
    count(*) AS events,
    sum(CASE WHEN s.flagged THEN 1 ELSE 0 END) AS shadow_flagged,
    sum(CASE WHEN p.flagged THEN 1 ELSE 0 END) AS champion_flagged,
    sum(CASE WHEN s.flagged AND p.flagged THEN 1 ELSE 0 END) AS both_flagged,
    sum(CASE WHEN l.label IS NOT NULL THEN 1 ELSE 0 END) AS labelled,
    sum(CASE WHEN l.label = 'fraud' THEN 1 ELSE 0 END) AS frauds,
    sum(CASE WHEN l.label = 'fraud' AND s.flagged THEN 1 ELSE 0 END) AS shadow_true_positives,
    sum(CASE WHEN l.label = 'fraud' AND p.flagged THEN 1 ELSE 0 END) AS champion_true_positives,
    sum(CASE WHEN l.label = 'fraud' AND s.flagged THEN 1.0 ELSE 0.0 END)
        / NULLIF(sum(CASE WHEN l.label IS NOT NULL AND s.flagged THEN 1 ELSE 0 END), 0) AS shadow_precision,
    sum(CASE WHEN l.label = 'fraud' AND p.flagged THEN 1.0 ELSE 0.0 END)
        / NULLIF(sum(CASE WHEN l.label IS NOT NULL AND p.flagged THEN 1 ELSE 0 END), 0) AS champion_precision,
    sum(CASE WHEN l.label = 'fraud' AND s.flagged THEN 1.0 ELSE 0.0 END)
        / NULLIF(sum(CASE WHEN l.label = 'fraud' THEN 1 ELSE 0 END), 0) AS shadow_recall,
    sum(CASE WHEN l.label = 'fraud' AND p.flagged THEN 1.0 ELSE 0.0 END)
        / NULLIF(sum(CASE WHEN l.label = 'fraud' THEN 1 ELSE 0 END), 0) AS champion_recall
FROM shadow_predictions s
JOIN predictions p
    ON p.day = s.day AND p.topic_generation = s.topic_generation
    AND p.source_partition = s.source_partition AND p.source_offset = s.source_offset
LEFT JOIN event_labels l ON l.event_id = p.event_id
GROUP BY ${occurred_on}, s.model, p.model
