// The live connection: which page is watched, what is told of it, and whether it stands.

import { io } from "../vendor/socket.io.esm.min.js";
import { byId } from "./dom.js";

const STATES = {
  connecting: "Connecting",
  live: "Live",
  lost: "Connection lost – trying again",
};

let socket;
let watched = "";
let caughtUp = () => {};

function show(state) {
  byId("live").dataset.state = state;
  byId("live").textContent = STATES[state];
}

// Watching comes first and reading the page's notes after it: so nothing falls between the two.
function watchNow() {
  if (watched) socket.emit("watch", watched, () => caughtUp(watched));
}

export function watch(path) {
  watched = path;
  if (socket.connected) watchNow();
}

// `onNote` is given what happened and the note; `onCatchUp` the page whose notes may have
// changed unheard: when it is first watched, and when the connection is back.
export function startLive(onNote, onCatchUp) {
  caughtUp = onCatchUp;
  socket = io("/notes", { reconnectionDelay: 300, reconnectionDelayMax: 3000 });
  socket.on("connect", () => {
    show("live");
    watchNow();
  });
  socket.on("disconnect", () => show("lost"));
  socket.io.on("reconnect_attempt", () => show("lost"));
  for (const event of ["created", "changed", "deleted"]) {
    socket.on(event, (note) => onNote(event, note));
  }
}
