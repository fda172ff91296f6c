// The listening test's page. Which voice a clip is cannot be found here: names are random, and the key is elsewhere.
"use strict";

const TEST = window.LISTENING_TEST;
const STORE = `listening-${TEST.id}`;
const COLUMNS = ["test", "sentence", "variant", "reference", "rater", "score", "seconds", "trap"];
const main = document.getElementById("main");

const WORDS = {
  acr: {
    title: "Rate the quality",
    explain: [
      "You will hear one short recording at a time. Say how good the <b>quality of the speech</b> is, from excellent to bad.",
      "Judge how it sounds, not what is said. Use the whole scale. There is no right answer: your own impression counts.",
    ],
    question: "The quality of the speech is",
    practice: "Three examples first. They show how much the quality can differ and are not counted.",
  },
  ccr: {
    title: "Compare two recordings",
    explain: [
      "You will hear the same sentence twice, first A, then B. Say how the <b>quality of B compares to the quality of A</b>.",
      "Differences can be small. If you hear none, choose “About the same”.",
    ],
    question: "The quality of B, compared to A, is",
    practice: "Two examples first. They are not counted.",
  },
  mushra: {
    title: "Compare with a reference",
    explain: [
      "You will hear a reference and several recordings of the same sentence. Give each recording a value from 0 to 100 for how close its <b>quality comes to the reference</b>.",
      "One of the recordings is the reference itself: it should get 100. Play everything as often as you like, in any order.",
    ],
    question: "Quality of each recording",
    practice: "One example first. It is not counted.",
  },
};

// --- progress, kept in the browser

function load() {
  try { return JSON.parse(localStorage.getItem(STORE)); } catch { return null; }
}
function save() {
  try { localStorage.setItem(STORE, JSON.stringify(state)); } catch { /* private window: the test still works */ }
}
const nobody = () => ({ rater: 0, name: "", at: 0, rows: [], sent: false });
let state = load() || nobody();

const isRater = (number) => Number.isInteger(number) && number >= 1 && number <= TEST.orders.length;
const invited = Number(new URLSearchParams(location.search).get("rater")); // by the address; 0: not said
let isSettled = false; // who it is, where this browser holds the test of somebody else

/** Begin a test, in the place of the one that this browser holds. */
function begin(rater) {
  const random = crypto.getRandomValues(new Uint32Array(1))[0].toString(36).padStart(4, "0").slice(0, 4);
  state = { ...nobody(), rater, name: `${rater}-${random}` };
  isSettled = true;
  save();
  show();
}

const mayRemove = () => !state.rows.length
  || confirm("Remove these ratings from this browser? Only do so when they were sent or downloaded.");

function screens() {
  if (!state.rater) return [{ kind: "welcome" }];
  if (isRater(invited) && invited !== state.rater && !isSettled) return [{ kind: "who" }];
  const found = [{ kind: "sound" }];
  const order = TEST.orders[state.rater - 1];
  for (const test of TEST.tests) {
    found.push({ kind: "intro", test });
    TEST.practice[test].forEach((trial, n) =>
      found.push({ kind: "trial", trial, clips: trial.clips, practice: true, number: n + 1, of: TEST.practice[test].length }));
    const own = order.filter(([trial]) => TEST.trials[trial].test === test);
    own.forEach(([number, ...inside], n) => {
      const trial = TEST.trials[number];
      found.push({ kind: "trial", trial, clips: inside.map((i) => trial.clips[i]), practice: false, number: n + 1, of: own.length });
    });
  }
  found.push({ kind: "end" });
  return found;
}

function next() {
  if (state.rater) state.at += 1;
  save();
  show();
}

// --- small parts

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child != null));
  return made;
}
const text = (html) => element("p", { innerHTML: html });
let messages = 0;
function messageLine() {
  return element("p", { className: "message", id: `message-${(messages += 1)}`, role: "alert" });
}

let playing = null;
function stop() {
  if (!playing) return;
  playing.audio.pause();
  playing.button.classList.remove("playing");
  playing = null;
}
/** A button that plays a clip from its start; the returned object says whether it was heard to the end. */
function player(clip, label, message, onPlay = () => {}) {
  const audio = new Audio(`audio/${clip}.wav`);
  audio.preload = "auto";
  const button = element("button", { type: "button", className: "play", textContent: label });
  const made = { audio, button, heard: false };
  audio.addEventListener("ended", () => {
    made.heard = true;
    button.classList.remove("playing");
    button.classList.add("heard");
    button.setAttribute("aria-label", `${label}, heard`);
    playing = null;
  });
  audio.addEventListener("error", () => {
    button.classList.remove("playing");
    message.textContent = "This recording could not be loaded. Check your connection and play it again: your answers are kept.";
  });
  button.addEventListener("click", () => {
    stop();
    onPlay();
    message.textContent = "";
    if (audio.error) audio.load(); // which says so when it fails once more
    audio.currentTime = 0;
    button.classList.add("playing");
    playing = made;
    audio.play().catch(() => { button.classList.remove("playing"); });
  });
  return made;
}
function radios(name, question, answers, onChange = () => {}) {
  const set = element("fieldset", {}, element("legend", { textContent: question }));
  for (const [value, label, number] of answers) {
    const input = element("input", { type: "radio", name, value });
    input.addEventListener("change", onChange);
    set.append(element("label", { className: "answer" }, input,
      number == null ? null : element("b", { textContent: number }), element("span", { textContent: label })));
  }
  return set;
}
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value;

// --- screens

const SHOW = { welcome, who, sound, intro, trial, end };

/** @param {boolean} [isFollowing] another tab got there: it also sends what is to be sent */
function show(isFollowing = false) {
  stop();
  const all = screens();
  const screen = all[Math.min(state.at, all.length - 1)];
  const bar = document.getElementById("progress");
  bar.hidden = all.length === 1;
  document.getElementById("whose").textContent = state.rater ? `Listening test, listener ${state.rater}` : "Listening test";
  bar.max = all.length - 1;
  bar.value = state.at;
  document.getElementById("where").textContent =
    screen.kind === "trial" ? `${screen.practice ? "Example" : "Recording"} ${screen.number} of ${screen.of}` : "";
  main.replaceChildren(...SHOW[screen.kind](screen, isFollowing));
  const heading = main.querySelector("h1");
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
  window.scrollTo(0, 0);
  const after = all[state.at + 1];
  if (after?.kind === "trial") after.clips.forEach((clip) => { new Audio(`audio/${clip}.wav`).preload = "auto"; });
}
const heading = (title) => element("h1", { textContent: title });

function welcome() {
  const message = messageLine();
  const trials = TEST.orders[0].length;
  const field = element("input", { type: "number", id: "rater", min: 1, max: TEST.orders.length, required: true, inputMode: "numeric" });
  if (invited) field.value = invited;
  const form = element("form", { noValidate: true },
    element("label", { className: "field", htmlFor: "rater", textContent: "Your listener number" }),
    field,
    element("p", { className: "note", textContent: `You were given it with the invitation; a number from 1 to ${TEST.orders.length}.` }),
    message, element("button", { className: "main", textContent: "Begin" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const rater = Number(field.value);
    if (!isRater(rater)) {
      message.textContent = `Enter your listener number: a whole number from 1 to ${TEST.orders.length}.`;
      field.focus();
      return;
    }
    begin(rater);
  });
  return [heading("How good does it sound?"),
    text(`You will listen to short sentences and say how good they sound: ${trials} in all, about ${Math.max(1, Math.round(trials / 6))} minutes.`),
    element("ul", {}, ...["Wear headphones, and sit in a quiet room.", "You should have normal hearing.",
      "Listen to every recording to its end before you answer.",
      "Some recordings tell you which answer to choose: choose that one.",
      "You can stop at any time: this browser keeps your answers, and the test goes on where you left it.",
      ].map((line) => element("li", { textContent: line }))),
    element("p", { className: "note", textContent: TEST.postUrl
      ? "Recorded are your listener number, your answers and how long they took. They are sent to the organizer when you finish."
      : "Recorded are your listener number, your answers and how long they took. They stay in this browser until you send the file that you get at the end." }),
    form];
}

/** The address invites another listener than the one whose test this browser holds. */
function who() {
  const same = element("button", { type: "button", className: "main", textContent: `Go on as listener ${state.rater}` });
  same.addEventListener("click", () => { isSettled = true; show(); });
  const other = element("button", { type: "button", textContent: `Start as listener ${invited}` });
  other.addEventListener("click", () => { if (mayRemove()) begin(invited); });
  return [heading("Who are you?"),
    element("p", { textContent: `This browser holds the test of listener ${state.rater}, and you were invited as listener ${invited}. Starting as listener ${invited} removes the answers of listener ${state.rater} from this browser.` }),
    element("div", { className: "actions" }, same, other)];
}

function sound() {
  const message = messageLine();
  const volume = player(TEST.volume, "Play", message);
  const comfortable = element("input", { type: "checkbox", id: "comfortable" });
  const first = state.rater % 2;
  const sides = [first, 1 - first];
  const ears = sides.map((side, n) => player(TEST.ears[side], `Play ${n + 1}`, message));
  const answers = [["0", "Left ear"], ["1", "Right ear"], ["2", "Both, or I cannot tell"]];
  const button = element("button", { type: "button", className: "main", textContent: "Next" });
  button.addEventListener("click", () => {
    if (!volume.heard || !comfortable.checked) message.textContent = "Play the sentence to its end, and confirm that the volume is comfortable.";
    else if (!ears.every((ear) => ear.heard)) message.textContent = "Play both headphone checks to the end.";
    else if (sides.some((_, n) => chosen(`ear${n}`) == null)) message.textContent = "Say for both checks in which ear you heard the voice.";
    else if (sides.some((side, n) => Number(chosen(`ear${n}`)) !== side)) {
      message.textContent = "That is not right. Put the headphones on with L on your left ear, switch off any “mono” or surround setting, and listen again.";
    } else next();
  });
  return [heading("Volume and headphones"),
    element("h2", { textContent: "Volume" }),
    text("Play this sentence and set a comfortable volume. Do not change it afterwards."),
    element("div", { className: "clips" }, volume.button),
    element("label", { className: "answer" }, comfortable, element("span", { textContent: "The volume is comfortable" })),
    element("h2", { textContent: "Headphones" }),
    text("In each of these two, the voice speaks in one ear only."),
    ...sides.flatMap((_, n) => [element("div", { className: "clips" }, ears[n].button),
      radios(`ear${n}`, `Check ${n + 1}: where did you hear the voice?`, answers)]),
    message, button];
}

function intro({ test }) {
  const words = WORDS[test];
  const button = element("button", { type: "button", className: "main", textContent: "Next" });
  button.addEventListener("click", next);
  return [heading(words.title), ...words.explain.map(text), text(words.practice), button];
}

function trial(screen) {
  return screen.trial.test === "mushra" ? mushra(screen) : single(screen);
}

/** ACR: one recording; CCR: two. One answer. */
function single({ trial, clips, practice }) {
  const message = messageLine();
  const { test } = trial;
  let began = 0, answered = 0;
  const start = () => { began = began || performance.now(); };
  const names = test === "ccr" ? ["Play A", "Play B"] : ["Play"];
  const players = clips.map((clip, n) => player(clip, names[n], message, start));
  const labels = TEST.labels[test].map(([score, label]) => [score, label, test === "acr" ? score : (score > 0 ? `+${score}` : `${score}`.replace("-", "−"))]);
  const answers = radios("score", WORDS[test].question, labels, () => { answered = performance.now(); message.textContent = ""; });
  const button = element("button", { type: "button", className: "main", textContent: "Next" });
  button.addEventListener("click", () => {
    const score = chosen("score");
    if (!players.every((one) => one.heard)) message.textContent = test === "ccr" ? "Listen to both recordings to the end first." : "Listen to the recording to its end first.";
    else if (score == null) message.textContent = "Choose an answer.";
    else {
      const [first, second] = clips;
      if (!practice) {
        record(trial, test === "ccr" ? second : first, test === "ccr" ? first : "", score, began, answered);
      }
      next();
    }
  });
  return [heading(WORDS[test].title), practice ? element("p", { className: "note", textContent: "An example: not counted." }) : null,
    element("div", { className: "clips" }, ...players.map((one) => one.button)), answers, message, button].filter(Boolean);
}

function mushra({ trial, clips, practice }) {
  const message = messageLine();
  let began = 0, answered = 0;
  const start = () => { began = began || performance.now(); };
  const reference = player(trial.reference, "Play the reference", message, start);
  const rows = clips.map((clip, n) => {
    const made = player(clip, `Play ${n + 1}`, message, start);
    const output = element("output", { textContent: "–" });
    const input = element("input", { type: "range", min: 0, max: 100, value: 50, id: `score${n}`, className: "untouched" });
    const touch = () => { input.classList.remove("untouched"); output.textContent = input.value; answered = performance.now(); };
    input.addEventListener("input", touch);
    input.addEventListener("change", touch);
    const label = element("label", { htmlFor: input.id, textContent: `Recording ${n + 1}: 0 is bad, 100 is excellent` });
    return { clip, made, input, row: element("div", { className: "slider" }, made.button, label, input, output) };
  });
  const button = element("button", { type: "button", className: "main", textContent: "Next" });
  button.addEventListener("click", () => {
    if (!reference.heard || !rows.every((row) => row.made.heard)) message.textContent = "Listen to the reference and to every recording to the end first.";
    else if (rows.some((row) => row.input.classList.contains("untouched"))) message.textContent = "Move the slider of every recording.";
    else {
      if (!practice) rows.forEach((row) => record(trial, row.clip, trial.reference, row.input.value, began, answered));
      next();
    }
  });
  const marks = element("div", { className: "marks", ariaHidden: "true" }, ...["Bad", "Poor", "Fair", "Good", "Excellent"].map((mark) => element("span", { textContent: mark })));
  return [heading(WORDS.mushra.title), practice ? element("p", { className: "note", textContent: "An example: not counted." }) : null,
    element("div", { className: "clips" }, reference.button), element("h2", { textContent: WORDS.mushra.question }), marks,
    ...rows.map((row) => row.row), message, button].filter(Boolean);
}

function record(trial, variant, reference, score, began, answered) {
  const seconds = Math.max(0, (answered - began) / 1000).toFixed(1);
  state.rows.push([trial.test, trial.sentence, variant, reference, state.name, score, seconds, ""]);
}

// --- the end

const csv = () => [COLUMNS, ...state.rows].map((row) => row.join(",")).join("\n") + "\n";

function end(_, isFollowing) {
  const status = element("p", { className: "message good", role: "status" });
  const link = element("a", { download: `ratings-${TEST.id}-${state.name}.csv`, href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })) });
  const download = element("button", { type: "button", className: "main", textContent: "Download my ratings" });
  download.addEventListener("click", () => { link.click(); status.textContent = "The file is in your downloads. Send it to the organizer."; });
  const again = element("button", { type: "button", textContent: "Send again" });
  again.hidden = true;
  const { name } = state;
  const send = async () => {
    status.textContent = "Sending your ratings …";
    try {
      // text/plain needs no preflight request, so a plain server that stores the body is enough
      const reply = await fetch(TEST.postUrl, { method: "POST", headers: { "Content-Type": "text/plain;charset=utf-8" }, body: csv() });
      if (!reply.ok) throw new Error(`the server answered ${reply.status}`);
      if (state.name === name) { // this browser may hold the test of somebody else by now
        state.sent = true;
        save();
      }
      status.textContent = "Your ratings were sent. You may close this page.";
      again.hidden = true;
    } catch (error) {
      status.textContent = `Your ratings could not be sent (${error.message}). Try again, or download the file and mail it to the organizer.`;
      again.hidden = false;
    }
  };
  again.addEventListener("click", send);
  const other = element("button", { type: "button", textContent: "Start for another listener" });
  other.addEventListener("click", () => {
    if (!mayRemove()) return;
    state = nobody();
    save();
    show();
  });
  if (TEST.postUrl && !state.sent) {
    if (isFollowing) again.hidden = false;
    else send();
  } else if (state.sent) status.textContent = "Your ratings were sent. You may close this page.";
  return [heading("Thank you"),
    text(TEST.postUrl ? "That was the last recording." : "That was the last recording. Download your ratings and send the file to the organizer."),
    status, element("div", { className: "actions" }, download, again, other)];
}

// a tab that is not the latest goes on with the latest answers, and does not write its own over them
function follow() {
  state = load() || state;
  show(true);
}
addEventListener("storage", ({ key }) => { if (key === STORE) follow(); });
addEventListener("pageshow", ({ persisted }) => { if (persisted) follow(); }); // it was told nothing meanwhile

show();
