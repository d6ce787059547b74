// Every address of the service that the pages use, as functions. How requests are made is http.js's business.

import { getJson, postJson } from "./http.js";

const part = encodeURIComponent;

export const LIVE = "/api/live";

export const getSession = (signal) => getJson("/api/session", {}, signal);

export const getAlerts = (query, signal) => getJson("/api/alerts", query, signal);
export const getAlert = (id, signal) => getJson(`/api/alerts/${part(id)}`, {}, signal);
export const getBudget = (days, signal) => getJson("/api/alerts/budget", { days }, signal);
export const postFeedback = (feedback) => postJson("/api/feedback", feedback);

export const getPredictions = (limit, signal) => getJson("/api/predictions", { limit }, signal);
export const getPrediction = (event, signal) => getJson(`/api/predictions/${part(event)}`, {}, signal);
export const getDetection = (days, signal) => getJson("/api/detection", { days }, signal);

export const getModels = (signal) => getJson("/api/models", {}, signal);
export const getModel = (name, version, signal) => getJson(`/api/models/${part(name)}/${part(version)}`, {}, signal);
export const getRuns = (limit, signal) => getJson("/api/runs", { limit }, signal);
export const getDrifts = (days, signal) => getJson("/api/drifts", { days }, signal);
export const promote = (name, version, why) =>
  postJson(`/api/models/${part(name)}/${part(version)}/promote`, { why });
export const rollBack = (name, why) => postJson(`/api/models/${part(name)}/rollback`, { why });

export const getSlate = (user, signal) => getJson(`/api/recommendations/${part(user)}`, {}, signal);
export const getRewards = (days, signal) => getJson("/api/rewards", { days }, signal);
export const getCoverage = (signal) => getJson("/api/coverage", {}, signal);
export const getItems = (search, limit, signal) => getJson("/api/items", { search, limit }, signal);
export const getItem = (item, signal) => getJson(`/api/items/${part(item)}`, {}, signal);

export const getDeadLetters = (query, signal) => getJson("/api/dead-letters", query, signal);
export const getDeadLetter = ({ generation, partition, offset }, signal) =>
  getJson(`/api/dead-letters/${part(generation)}/${part(partition)}/${part(offset)}`, {}, signal);
export const replay = ({ generation, partition, offset }) =>
  postJson(`/api/dead-letters/${part(generation)}/${part(partition)}/${part(offset)}/replay`, {});
export const getAudit = (query, signal) => getJson("/api/audit", query, signal);
export const getViews = (signal) => getJson("/api/views", {}, signal);
