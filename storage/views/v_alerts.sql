-- The latest revision of each alert, with the newest label on it or on one of its events.
CREATE VIEW v_alerts AS
WITH labels AS (
    SELECT a.alert_id, l.label, l.source, l.given_at,
        row_number() OVER (PARTITION BY a.alert_id ORDER BY l.given_at DESC) AS place
    FROM alerts a
    CROSS JOIN ${each_event_id}
    JOIN event_labels l ON l.event_id = each_event.value
    WHERE a.revision = (SELECT max(later.revision) FROM alerts later WHERE later.alert_id = a.alert_id)
)
SELECT
    a.alert_id, a.revision, a.status, a.closed_by, a.account_id, a.event_ids, a.occurred_at, a.scored_at,
    a.score, a.score_kind, a.threshold, a.severity, a.amount_at_risk, a.model, a.reasons, a.timeline,
    labels.label, labels.source AS label_source, labels.given_at AS label_given_at
FROM alerts a
LEFT JOIN labels ON labels.alert_id = a.alert_id AND labels.place = 1
WHERE a.revision = (SELECT max(later.revision) FROM alerts later WHERE later.alert_id = a.alert_id)
