-- The newest label of each event, given on the event itself or on an alert that holds it. Internal.
CREATE VIEW event_labels AS
WITH given AS (
    SELECT f.event_id, f.label, f.source, f.given_at, f.feedback_id
    FROM feedback f
    WHERE f.kind = 'label' AND f.status = 'joined'${joined_by} AND f.event_id IS NOT NULL
    UNION ALL
    SELECT each_event.value, f.label, f.source, f.given_at, f.feedback_id
    FROM feedback f
    JOIN alerts a ON a.alert_id = f.alert_id
        AND a.revision = (SELECT max(later.revision) FROM alerts later WHERE later.alert_id = a.alert_id)
    CROSS JOIN ${each_event_id}
    WHERE f.kind = 'label' AND f.status = 'joined'${joined_by} AND f.alert_id IS NOT NULL
),
ranked AS (
    SELECT given.*, row_number() OVER (PARTITION BY event_id ORDER BY given_at DESC, feedback_id DESC) AS place
    FROM given
)
SELECT event_id, label, source, given_at FROM ranked WHERE place = 1
