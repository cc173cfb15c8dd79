"use strict";

const $ = (id) => document.getElementById(id);
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
let token = "";
let fields = null;
let events = 0;

function made(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

async function ask(path, body) {
  const request = { headers: { Authorization: "Bearer " + token }, cache: "no-store" };
  if (body !== undefined) Object.assign(request, { method: "POST", body: JSON.stringify(body) });
  const response = await fetch(path, request);
  const told = await response.json();
  if (!response.ok) throw new Error(told.error);
  return told;
}

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

async function busy(form, work) {
  const button = form.querySelector("button[type=submit]");
  problem("");
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    $("answer").hidden = true;
    problem(error.message);
  } finally {
    button.disabled = false;
  }
}

// --- fields ---------------------------------------------------------------------------------------------------------

function labelled(control, id, name, hint = "") {
  control.id = id;
  const label = made("label", { htmlFor: id }, name);
  if (hint) label.append(made("span", { className: "hint", textContent: hint }));
  return made("div", {}, label, control);
}

function group(name, controls) {
  return made("fieldset", {}, made("legend", { textContent: name }), made("div", { className: "fields" }, ...controls));
}

function cell(field, id) {
  let control = made("input", { autocomplete: "off", required: field.required });
  if (field.categories.length) {
    control = made("select", {}, made("option", { value: "", textContent: "not measured" }));
    control.append(...field.categories.map((word) => made("option", { value: word, textContent: word })));
  } else if (field.kind === "number") control.inputMode = "decimal";
  if (field.value) control.value = field.value;
  control.dataset.column = field.name;
  return labelled(control, id, field.name + (field.required ? " *" : ""), field.hint);
}

function event() {
  events += 1;
  const id = "event-" + events + "-";
  const code = made("input", { autocomplete: "off" });
  code.setAttribute("list", "codes");
  const remove = made("button", { type: "button", className: "plain", textContent: "Remove event " + events });
  const row = made("fieldset", {}, made("legend", { textContent: "Event " + events }), made("div", { className: "fields" },
    labelled(code, id + "code", "Code"),
    labelled(made("input", { type: "datetime-local", step: 1 }), id + "time", "Time", "empty: static, such as sex"),
    labelled(made("input", { inputMode: "decimal", autocomplete: "off" }), id + "number", "Number"),
    labelled(made("input", { autocomplete: "off" }), id + "text", "Text")), remove);
  remove.addEventListener("click", () => { row.remove(); $("add").focus(); });
  return row;
}

function showFields() {
  $("run").textContent = "Run '" + fields.run + "'";
  $("answer").hidden = true;
  if (fields.door === "table") {
    $("fields").replaceChildren(...fields.groups.map((part, g) =>
      group(part.name, part.fields.map((field, i) => cell(field, "cell-" + g + "-" + i)))));
  } else {
    const list = made("div", { id: "events" }, event(), event(), event());
    const add = made("button", { type: "button", id: "add", className: "plain", textContent: "Add an event" });
    add.addEventListener("click", () => { const row = event(); list.append(row); row.querySelector("input").focus(); });
    const codes = made("datalist", { id: "codes" }, ...fields.codes.map((value) => made("option", { value })));
    const at = made("input", { type: "datetime-local", step: 1, required: true });
    $("fields").replaceChildren(group("Patient", [labelled(at, "at", "Ask at *", "by the clock of the records")]),
      list, add, codes);
  }
  $("ask").hidden = false;
  $("ask").querySelector("input, select").focus();
}

function filled() {
  if (fields.door === "table") {
    const row = {};
    for (const control of $("fields").querySelectorAll("[data-column]")) row[control.dataset.column] = control.value;
    return { rows: [row] };
  }
  const written = [];
  for (const row of $("events").children) {
    const [code, time, number, text] = [...row.querySelectorAll("input")].map((control) => control.value.trim());
    if (!code) continue;
    const one = { subject_id: 1, code, time: time || null };
    if (number && !NUMBER.test(number)) throw new Error("Number of an event: expected one such as 2.1; correct it");
    if (number) one.numeric_value = Number(number);
    if (text) one.text_value = text;
    written.push(one);
  }
  return { events: written, at: [{ subject_id: 1, prediction_time: $("at").value }] };
}

// --- answers --------------------------------------------------------------------------------------------------------

const percent = (risk) => (100 * risk).toFixed(1) + " %";

function told(list, term, text, className = "") {
  list.append(made("dt", { textContent: term }), made("dd", { textContent: text, className }));
}

function task(name, answer, spread) {
  const list = made("dl");
  if (answer.refused) {
    told(list, "No risk is given", answer.refused);
  } else {
    told(list, "Risk", percent(answer.risk), "number");
    if (answer.rectified !== null) told(list, "Rectified for the pattern", percent(answer.rectified), "number");
    if (answer.spread) {
      const [low, high] = answer.spread.map(percent);
      told(list, "Spread", low + " to " + high, "number");
      list.append(made("dd", { className: "what", textContent: spread }));
    }
  }
  const about = fields.tasks.find((one) => one.name === name);
  const what = made("p", { className: "what", textContent: about.outcome + "; asked at: " + about.asked_at });
  return made("div", { className: answer.refused ? "task refused" : "task" },
    made("h3", { textContent: name }), what, list);
}

function pattern(patient, modalities) {
  const list = made("dl");
  const present = modalities.filter((_, i) => patient.pattern[i] === "1");
  told(list, "Pattern", patient.pattern + " (" + modalities.join(", ") + "; 1 = present)");
  told(list, "Present", present.join(", ") || "nothing");
  told(list, "Absent", patient.absent.join(", ") || "nothing");
  const alike = patient.training_patients;
  told(list, "Training patients", alike === null ? patient.training_patients_are : alike + " " + patient.training_patients_are);
  if ("ignored_later_events" in patient) told(list, "Events known only later, not used", String(patient.ignored_later_events));
  return made("div", {}, made("h3", { textContent: "What the risks rest on" }), list);
}

function showAnswer(answer) {
  const [patient] = answer.patients;
  const parts = Object.entries(patient.tasks).map(([name, one]) => task(name, one, answer.spread_is));
  if (patient.pattern !== null) parts.push(pattern(patient, answer.modalities));
  if (answer.notes.length) {
    const notes = made("ul", {}, ...answer.notes.map((note) => made("li", { textContent: note })));
    parts.push(made("h3", { textContent: "Notes" }), notes);
  }
  parts.push(made("p", { className: "use", textContent: answer.use[0].toUpperCase() + answer.use.slice(1) + "." }));
  $("risks").replaceChildren(...parts);
  $("answer").hidden = false;
  $("answered").focus();
}

$("open").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  busy($("open"), async () => {
    token = $("token").value;
    fields = await ask("recipe");
    showFields();
  });
});

// an answer stands beside the fields that it is of, or not at all
$("ask").addEventListener("input", () => { $("answer").hidden = true; });

$("ask").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  busy($("ask"), async () => showAnswer(await ask("predict", filled())));
});
