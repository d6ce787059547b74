-- Each prediction with its transaction, and its label when one is known. The index by event_id is transactions'.
CREATE VIEW v_predictions AS
SELECT
    t.event_id, p.account_id, t.merchant_id, p.occurred_at, p.scored_at,
    t.amount_e4 * 0.0001 AS amount, t.currency, t.channel, t.country, t.category, t.memo, t.extra,
    p.score, p.threshold, p.flagged, p.score_kind, p.model, p.alert_id,
    l.label, l.source AS label_source, l.given_at AS label_given_at,
    p.day, p.topic_generation, p.source_partition, p.source_offset
FROM predictions p
JOIN transactions t
    ON t.day = p.day AND t.topic_generation = p.topic_generation
    AND t.source_partition = p.source_partition AND t.source_offset = p.source_offset
LEFT JOIN event_labels l ON l.event_id = t.event_id
