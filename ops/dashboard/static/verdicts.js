// Verdicts of analysts on their way: sent to Kafka, then waited for until the service has joined them with their alert.

import { getAlert, postFeedback } from "./api.js";
import { createStore } from "./store.js";

const LOOK_AGAIN_MS = [700, 1_000, 1_500, 2_000, 3_000, 4_000, 6_000, 8_000];

/** alert id -> { label, state: "sending", "sent", "joined", "late" or "failed", message, alert: as it was
 * once a label was joined }. */
export const verdicts = createStore({});

/** Sends a label and follows it. The outcome is in `verdicts`. */
export async function judge(alertId, label) {
  if (verdicts.get()[alertId]?.state === "sending") return;
  note(alertId, { label, state: "sending", message: `Sending “${label}” …` });
  let feedbackId;
  try {
    ({ feedback_id: feedbackId } = await postFeedback({ kind: "label", alert_id: alertId, label }));
  } catch (error) {
    note(alertId, { label, state: "failed", message: `Not sent. ${error.message}` });
    return;
  }
  note(alertId, { label, feedbackId, state: "sent", message: `Sent as “${label}”. Waiting until the service has it …` });
  await follow(alertId, label, feedbackId);
}

async function follow(alertId, label, feedbackId) {
  for (const wait of LOOK_AGAIN_MS) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    if (verdicts.get()[alertId]?.feedbackId !== feedbackId) return;
    const alert = await getAlert(alertId).catch(() => null);
    if (alert?.labels.some((each) => each.feedback_id === feedbackId && each.status === "joined")) {
      note(alertId, { label, feedbackId, state: "joined", message: `Labelled “${label}”. The next model learns from it.`, alert });
      return;
    }
  }
  const message = `“${label}” is in Kafka, but no worker has taken it yet. It counts once one does.`;
  note(alertId, { label, feedbackId, state: "late", message });
}

function note(alertId, verdict) {
  verdicts.set((before) => ({ ...before, [alertId]: { alert: before[alertId]?.alert, ...verdict } }));
}
