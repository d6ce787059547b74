// Asks for the token that the service wants to see.

import { html, useEffect, useRef, useState } from "../view.js";

export function SignIn({ signIn, message }) {
  const [secret, setSecret] = useState("");
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  const submit = (event) => {
    event.preventDefault();
    signIn(secret.trim());
  };
  return html`<main class="alone"><form class="card sign-in" onSubmit=${submit}>
    <h1><img src="/static/icon.svg" alt="" width="32" height="32" /> Headgate</h1>
    <p>This console asks for a token. Whoever runs it has one for you: it stands in <code>HEADGATE_DASHBOARD_TOKENS</code>,
      with a role.</p>
    ${message && html`<p class="failure" role="alert">${message}</p>`}
    <label class="field">Token
      <input ref=${field} type="password" autocomplete="current-password" required value=${secret} onInput=${(event) => setSecret(event.target.value)} />
    </label>
    <p class="note">It is kept for this tab only, until you close it.</p>
    <button type="submit" class="primary">Go on</button>
  </form></main>`;
}
