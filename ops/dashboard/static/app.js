// The console as a whole: who is using it, the page that the address names, and what stands around every page.

import { getSession } from "./api.js";
import { useKeys } from "./keys.js";
import { useStore } from "./hooks.js";
import { startLive, stopLive } from "./live.js";
import { AlertsPage } from "./pages/alerts.js";
import { DataPage } from "./pages/data.js";
import { Help } from "./pages/help.js";
import { LivePage } from "./pages/live.js";
import { ModelsPage } from "./pages/models.js";
import { RecommendationsPage } from "./pages/recommendations.js";
import { SignIn } from "./pages/sign-in.js";
import { Announcer, Banner, Footer, Header } from "./parts/shell.js";
import { Failure, Loading } from "./parts/states.js";
import { route } from "./router.js";
import { keepToken, session } from "./session.js";
import { html, render, useEffect, useState } from "./view.js";

const PAGES = {
  live: { title: "Live", page: LivePage },
  alerts: { title: "Alerts", page: AlertsPage },
  models: { title: "Models", page: ModelsPage },
  recommendations: { title: "Recommendations", page: RecommendationsPage },
  data: { title: "Data", page: DataPage },
};

async function begin() {
  session.set((before) => ({ ...before, state: "starting" }));
  try {
    const { role, tokens } = await getSession();
    session.set({ state: "ready", role, usesTokens: tokens, message: "" });
    startLive();
  } catch (error) {
    if (error.status !== 401) session.set((before) => ({ ...before, state: "unreachable", message: error.message }));
  }
}

function signIn(token) {
  keepToken(token);
  begin();
}

function App() {
  const { state, message } = useStore(session);
  useEffect(() => {
    begin();
  }, []);
  useEffect(() => {
    if (state !== "ready") stopLive();
  }, [state]);
  if (state === "token needed") return html`<${SignIn} signIn=${signIn} message=${message} />`;
  if (state === "ready") return html`<${Console} />`;
  return html`<main class="alone">
    ${state === "starting" ? html`<${Loading} what="Connecting" />` : html`<${Failure} error=${{ message }} again=${begin} />`}
  </main>`;
}

function Console() {
  const { parts, query } = useStore(route);
  const [help, setHelp] = useState(false);
  const name = parts[0] in PAGES ? parts[0] : "live";
  const { title, page } = PAGES[name];
  useKeys({ "?": () => setHelp(true) });
  useEffect(() => {
    document.title = `${title} – Headgate`;
  }, [title]);
  return html`
    <${Header} pages=${PAGES} current=${name} openHelp=${() => setHelp(true)} />
    <${Banner} />
    <main id="content" class=${`page page-${name}`} tabindex="-1"><${page} key=${name} path=${parts.slice(1)} query=${query} /></main>
    <${Footer} />
    <${Announcer} />
    ${help && html`<${Help} close=${() => setHelp(false)} />`}`;
}

render(html`<${App} />`, document.getElementById("app"));
