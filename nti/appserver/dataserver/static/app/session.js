// Signing in with the one-time token. A link to sign in carries it in the fragment, which is
// taken out of the address at once.

import { session, signIn, signOut } from "./api.js";
import { byId, make, notice } from "./dom.js";

const dialog = byId("sign-in");
let changed = () => {};
export let reader = null;

function become(name) {
  reader = name;
  byId("who").replaceChildren(
    ...(name
      ? [
          make("span", { class: "avatar", "aria-hidden": "true" }, name.slice(0, 1).toUpperCase()),
          make("span", { class: "name", title: name }, name),
          make("button", { class: "quiet", type: "button", onclick: leave }, "Sign out"),
        ]
      : [make("button", { class: "quiet", type: "button", onclick: () => ask() }, "Sign in")]),
  );
  changed();
}

async function leave() {
  try {
    await signOut();
    become(null);
  } catch (problem) {
    notice(problem.message);
  }
}

// Open the dialog; with a token from a link only the name is left to say.
export function ask(token = "") {
  byId("token").value = token;
  byId("token-row").hidden = Boolean(token);
  byId("sign-in-problem").hidden = true;
  dialog.showModal();
  byId(token ? "name" : "token").focus();
}

async function submit(event) {
  event.preventDefault();
  // A whole link may be pasted as well.
  const token = byId("token").value.trim().replace(/^.*#token=/, "");
  try {
    const name = await signIn(token, byId("name").value);
    dialog.close();
    become(name);
  } catch (problem) {
    byId("sign-in-problem").textContent = problem.message;
    byId("sign-in-problem").hidden = false;
    byId("token-row").hidden = false;
  }
}

function tokenOfLink() {
  if (!location.hash.startsWith("#token=")) return "";
  const token = location.hash.slice("#token=".length);
  history.replaceState(null, "", location.pathname);
  return token;
}

export async function startSession(onChange) {
  changed = onChange;
  byId("sign-in-form").addEventListener("submit", submit);
  byId("sign-in-cancel").addEventListener("click", () => dialog.close());
  byId("open-sign-in").addEventListener("click", () => ask());
  const followLink = () => {
    const token = tokenOfLink();
    if (token && !reader) ask(token);
  };
  window.addEventListener("hashchange", followLink);
  const token = tokenOfLink();
  try {
    become(await session());
  } catch (problem) {
    become(null);
    notice(problem.message);
  }
  if (token && !reader) ask(token);
}
