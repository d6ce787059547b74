-- Registered versions of models: which one is in use, how good it was when it was registered, promoted when and why.
CREATE VIEW v_models AS
SELECT
    m.name || ':' || m.version AS model, m.name, m.version, m.kind, m.alias, m.created_at,
    ${figures} AS metrics,
    m.promoted_at, m.promoted_why, m.withdrawn_at, m.withdrawn_why
FROM models m
