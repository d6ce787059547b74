// The text of server-sent events, cut into events. Knows nothing of where the text comes from.

/** Gives a function that takes the next piece of text and returns the events that it completes. */
export function eventReader() {
  let rest = "";
  let event = blank();
  return (text) => {
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    const complete = [];
    for (const line of lines) {
      if (line !== "") take(event, line);
      else {
        if (event.data.length > 0) complete.push({ ...event, data: event.data.join("\n") });
        event = blank();
      }
    }
    return complete;
  };
}

function blank() {
  return { type: "message", id: null, data: [] };
}

function take(event, line) {
  const colon = line.indexOf(":");
  const field = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (field === "event") event.type = value;
  if (field === "id") event.id = value;
  if (field === "data") event.data.push(value);
}
