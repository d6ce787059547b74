// Dialogs: the browser's own <dialog>, which keeps the focus inside and gives it back.

import { announce } from "../announcer.js";
import { html, useEffect, useRef, useState } from "../view.js";

/** Closes the dialog that an element is in; the browser then gives the focus back to where it was. */
export function closeAround(element) {
  element.closest("dialog").close();
}

export function Dialog({ title, close, children }) {
  const ref = useRef(null);
  useEffect(() => {
    ref.current.showModal();
  }, []);
  return html`<dialog ref=${ref} aria-labelledby="dialog-title" onClose=${close}>
    <h2 id="dialog-title">${title}</h2>
    ${children}
  </dialog>`;
}

/** Asks before something is done. act(why) gives a promise; its failure is shown and leaves the dialog open.
 * asksWhy: the label of a text that has to be given. */
export function Confirmation({ title, action, asksWhy, act, done, close, children }) {
  const [why, setWhy] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    setBusy(true);
    setProblem("");
    try {
      announce(done(await act(why.trim())));
      closeAround(form);
    } catch (error) {
      setProblem(error.message);
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${title} close=${close}>
    <form onSubmit=${submit}>
      ${children}
      ${asksWhy && html`<label class="field">${asksWhy}
        <textarea required rows="3" maxlength="1000" value=${why} onInput=${(event) => setWhy(event.target.value)}></textarea>
      </label>`}
      ${problem && html`<p class="failure" role="alert">${problem}</p>`}
      <div class="actions">
        <button type="button" onClick=${(event) => closeAround(event.currentTarget)}>Cancel</button>
        <button type="submit" class="primary" disabled=${busy || (asksWhy && why.trim() === "")}>${action}</button>
      </div>
    </form>
  <//>`;
}
