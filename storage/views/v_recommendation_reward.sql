-- Per day (UTC, when slates were made) and policy: what its slates were worth so far. The interval is that of a ratio of
-- sums over users, so that slates of one user may depend on each other.
CREATE VIEW v_recommendation_reward AS
WITH parts AS (
    SELECT
        ${made_on} AS day,
        r.policy,
        r.user_id,
        1 AS slates,
        CASE WHEN r.made_at <= ${a_day_ago} THEN 1 ELSE 0 END AS matured,
        0 AS impressions,
        0 AS clicks,
        0.0 AS reward
    FROM recommendations r
    UNION ALL
    SELECT ${made_on}, r.policy, r.user_id, 0, 0, r.impressions, r.clicks, r.reward FROM slate_answers r
),
of_users AS (
    SELECT
        day,
        policy,
        sum(slates) AS slates,
        sum(matured) AS matured,
        sum(impressions) AS impressions,
        sum(clicks) AS clicks,
        sum(CAST(reward AS DOUBLE PRECISION)) AS reward
    FROM parts
    GROUP BY day, policy, user_id
),
sums AS (
    SELECT
        day,
        policy,
        CAST(sum(slates) AS BIGINT) AS slates,
        CAST(sum(matured) AS BIGINT) AS matured,
        count(*) AS users,
        CAST(sum(impressions) AS BIGINT) AS impressions,
        CAST(sum(clicks) AS BIGINT) AS clicks,
        sum(reward) AS reward,
        sum(reward) / sum(slates) AS per_slate,
        sum(reward * reward) AS squares,
        sum(reward * slates) AS products,
        sum(1.0 * slates * slates) AS slate_squares
    FROM of_users
    GROUP BY day, policy
),
spread AS (
    SELECT sums.*, squares - 2.0 * per_slate * products + per_slate * per_slate * slate_squares AS residual FROM sums
)
SELECT
    day,
    policy,
    slates,
    matured,
    users,
    impressions,
    clicks,
    reward,
    per_slate AS reward_per_slate,
    per_slate - ${margin} AS reward_low,
    per_slate + ${margin} AS reward_high
FROM spread
