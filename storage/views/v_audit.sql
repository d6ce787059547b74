-- Who did what when: verdicts, promotions, replays and all else that people change. For auditors, not for every analyst.
CREATE VIEW v_audit AS
SELECT id, at, who, action, subject, detail
FROM audit_log
