-- Per day (UTC, by event time) and model: what was scored, flagged and labelled, and how good it was. A model's figures
-- are read once, not for each of its predictions: they hold its curves.
CREATE VIEW v_detection_daily AS
WITH m AS MATERIALIZED (
    SELECT models.name || ':' || models.version AS model, ${alerts_per_day} AS alerts_per_day FROM models
)
SELECT
    ${occurred_on} AS day,
    p.model,
    count(*) AS events,
    sum(CASE WHEN p.flagged THEN 1 ELSE 0 END) AS flagged,
    count(DISTINCT p.alert_id) AS alerts,
    sum(CASE WHEN l.label IS NOT NULL THEN 1 ELSE 0 END) AS labelled,
    sum(CASE WHEN l.label = 'fraud' THEN 1 ELSE 0 END) AS frauds,
    sum(CASE WHEN l.label = 'fraud' AND p.flagged THEN 1 ELSE 0 END) AS true_positives,
    sum(CASE WHEN l.label = 'fraud' AND p.flagged THEN 1.0 ELSE 0.0 END)
        / NULLIF(sum(CASE WHEN l.label IS NOT NULL AND p.flagged THEN 1 ELSE 0 END), 0) AS precision,
    sum(CASE WHEN l.label = 'fraud' AND p.flagged THEN 1.0 ELSE 0.0 END)
        / NULLIF(sum(CASE WHEN l.label = 'fraud' THEN 1 ELSE 0 END), 0) AS recall,
    max(CAST(m.alerts_per_day AS DOUBLE PRECISION)) AS alert_budget,
    count(DISTINCT p.alert_id) / NULLIF(max(CAST(m.alerts_per_day AS DOUBLE PRECISION)), 0) AS alert_budget_used
FROM predictions p
LEFT JOIN event_labels l ON l.event_id = p.event_id
LEFT JOIN m ON m.model = p.model
GROUP BY ${occurred_on}, p.model
