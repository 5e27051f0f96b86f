"use strict";
const $ = (id) => document.getElementById(id);
const money = (value) => value === null || value === undefined ? "–"
  : value.toLocaleString("en", {minimumFractionDigits: 2, maximumFractionDigits: 2});
const count = (value) => value === null || value === undefined ? "–" : value.toLocaleString("en");
const when = (text) => text ? text.slice(0, 16).replace("T", " ") : "–";

/* Whatever comes from the service becomes text, never markup. */
function element(name, content, properties) {
  const made = Object.assign(document.createElement(name), properties || {});
  for (const each of [].concat(content === undefined || content === null ? [] : content)) made.append(each);
  return made;
}
const right = (text) => ({text, n: true});
function table(heads, rows, caption) {
  const cell = (name, each) => each && each.n !== undefined
    ? element(name, each.text, {className: "n"}) : element(name, each);
  const made = element("table", [
    element("caption", caption || ""),
    element("thead", element("tr", heads.map((each) => cell("th", each)))),
    element("tbody", rows.map((row) => element("tr", row.map((each) => cell("td", each))))),
  ]);
  return element("div", made, {className: "scroll", tabIndex: 0});
}
function put(place, ...content) { place.replaceChildren(...content); }
const nothing = (text) => element("p", text, {className: "soft"});

async function ask(path, body) {
  const token = sessionStorage.getItem("token");
  const headers = token ? {Authorization: "Bearer " + token} : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method: body === undefined ? "GET" : "POST", headers, body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (answer.status === 401) { $("door").hidden = false; throw new Error("a valid token is needed"); }
  $("door").hidden = true;
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Error(said.detail || answer.status + " " + answer.statusText);
  }
  return answer;
}
const get = async (path) => (await ask(path)).json();
const post = async (path, body) => (await ask(path, body || {})).json();

function tell(error) {
  $("trouble").hidden = !error;
  $("trouble").textContent = error ? error.message : "";
}
/* A button is off while what it asked for is on its way. */
function button(text, act) {
  const made = element("button", text, {type: "button"});
  made.addEventListener("click", () => during(made, act));
  return made;
}
async function during(made, act) {
  made.disabled = true;
  try { await act(); tell(null); } catch (error) { tell(error); } finally { made.disabled = false; }
}
const on = (form, act) => $(form).addEventListener("submit", (event) => {
  event.preventDefault();
  during(event.submitter || $(form).querySelector("button"), act);
});

let plan = null;
const path = (end) => "/v1/plans/" + $("day").value + (end || "");

async function days() {
  const {plans} = await get("/v1/plans");
  const chosen = $("day").value;
  const known = [...$("day").options].map((each) => each.value).join();
  const newest = plans.map((each) => each.date).sort().reverse();
  if (known !== newest.join()) {
    put($("day"), ...newest.map((each) => element("option", each, {value: each})));
    if (newest.includes(chosen)) $("day").value = chosen;
  }
  if (newest.length) await showDay(); else {
    put($("plan"), nothing("No day is planned yet."));
    for (const each of ["approve", "hold", "report"]) $(each).disabled = true;
  }
}
async function showDay() {
  const day = $("day").value;
  const [found, standing] = await Promise.all([get(path()), get(path("/standing"))]);
  if (day !== $("day").value) return;
  const anew = !plan || plan.date !== found.date || plan.version !== found.version;
  plan = found;
  $("workspace").textContent = plan.workspace;
  $("standing").textContent = "version " + plan.version + ", " + standing.state;
  $("standing").className = "chip " + standing.state;
  $("approve").disabled = standing.state === "approved";
  $("hold").disabled = standing.state === "held";
  $("report").disabled = false;
  put($("runs"), standing.runs.length ? table(["run", "began", "state", "steps"], standing.runs.map((run) => [
    String(run.number), when(run.began_at), run.why ? run.state + ": " + run.why : run.state,
    run.steps.map(step).join(" · "),
  ]), "Runs, the newest first") : "");
  if (!anew) return;
  const totals = plan.totals;
  const figure = (name, value, key) => element("div", [element("dt", name), element("dd", value)],
    {className: key ? "key" : ""});
  put($("plan"), element("dl", [
    figure("expected net gain, " + plan.currency, money(totals.value), true),
    figure("cost", money(totals.cost)), figure("users who get something", count(totals.assigned)),
    figure("touches", count(totals.touches)), figure("expected responses", count(Math.round(totals.responses))),
    figure("gap to the proven bound", plan.allocation.gap === null ? "–" : plan.allocation.gap.toExponential(1)),
  ], {className: "figures"}), table(
    ["limit", right("used"), right("at most"), right("at least"), right("one more brings")],
    plan.allocation.limits.map((each) => [each.name, right(money(each.used)),
      right(each.at_most === null ? "–" : money(each.at_most)),
      right(each.at_least === null ? "–" : money(each.at_least)), right(money(each.price))]),
    "Limits; the price is what one more unit would bring"));
  $("asking").hidden = false;
  const bounded = plan.allocation.limits.filter((each) => each.at_most !== null);
  put($("limit"), ...bounded.map((each) => element("option", each.name, {value: each.name})));
  $("most").value = bounded.length ? bounded[0].at_most : "";
  put($("became")); put($("because")); put($("goals"));
  const {goals} = await get(path("/goals"));
  if (day === $("day").value) put($("goals"), table(
    ["goal", right("brings"), right("costs the others")],
    goals.map((each) => [each.goal, right(money(each.value)), right(money(each.costs_others))]),
    "What each goal brings, and what the others would have more without it"));
}
const step = (each) => each.step + (each.doing ? " (" + each.doing + ")" : "") +
  (each.seconds === undefined ? " …" : " " + each.seconds.toFixed(1) + " s") +
  (each.rows === undefined ? "" : ", " + count(each.rows) + " rows");
const decide = (state) => async () => { await post(path("/decision"), {state, by: "console"}); await showDay(); };
async function report() {
  const answer = await ask(path("/report"));
  const link = element("a", "", {href: URL.createObjectURL(await answer.blob()), download: "plan-" + $("day").value + ".html"});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
async function whatIf() {
  const name = $("limit").value;
  put($("became"), "…");
  const found = await post(path("/what-if"), {limits: {[name]: {at_most: Number($("most").value)}}});
  const more = found.difference.value;
  put($("became"), "net gain " + money(found.totals.value) + " instead of " + money(found.before.value) + " (" +
    (more < 0 ? "−" : "+") + money(Math.abs(more)) + "), cost " + money(found.totals.cost) + ", " +
    count(found.totals.assigned) + " tasks; proven within " + (100 * found.gap).toPrecision(2) + " %");
}
async function explain() {
  put($("because"), "…");
  const found = await get(path("/explain/" + encodeURIComponent($("user").value)));
  put($("because"),
    element("p", (found.cell ? found.cell.cell + ". " : "") + (found.given.length
      ? "Gets " + found.given.map((each) => each.task).join(", ") + "." : "Gets nothing.")),
    element("ul", found.candidates.slice(0, 12).map((each) => element("li", each.why))));
}

async function touches() {
  const {tasks} = await get("/v1/outbox");
  put($("touches").querySelector("div"), tasks.length ? table(
    ["task", "channel", "state", "touches", "next", ""],
    tasks.map((each) => [each.task, each.channel, each.state,
      Object.entries(each.touches).map(([state, many]) => count(many) + " " + state).join(", "), when(each.next),
      element("span", moves(each).map((action) => button(action, async () => {
        await post("/v1/outbox/" + each.number + "/" + action);
        await touches();
      })))]), "Newest runs") : nothing("Nothing is on its way."));
}
const moves = (task) => task.state === "paused" ? ["resume", "cancel"]
  : task.next && task.state === "running" ? ["pause", "cancel"] : [];

async function rules() {
  const {rules: found} = await get("/v1/rules");
  put($("rules").querySelector("div"), found.length ? table(
    ["rule", "state", "last firing", ""],
    found.map((each) => [each.rule, each.state, lastFiring(each.last),
      element("span", [button("result", () => result(each.rule)),
        button(each.state === "on" ? "off" : "on", async () => {
          await post("/v1/rules/" + encodeURIComponent(each.rule) + "/state",
            {state: each.state === "on" ? "off" : "on", by: "console"});
          await rules();
        })])])) : nothing("No rule is defined."));
}
function lastFiring(last) {
  return last ? Object.entries(last).filter(([, value]) => value !== "" && typeof value !== "object")
    .map(([name, value]) => name + " " + value).join(", ") : "–";
}
async function result(name) {
  const found = await get("/v1/rules/" + encodeURIComponent(name) + "/result");
  const line = (each) => each ? money(each.total) + " [" + money(each.total_low) + ", " + money(each.total_high) + "]" : "–";
  put($("result"), table(["", ""], [
    ["reached", right(count(found.reached))], ["converted", right(count(found.converted))],
    ["outcomes added", right(line(found.increment))], ["profit added", right(line(found.added_profit))],
    ["cost", right(money(found.cost))], ["to keep in mind", found.warnings.join("; ") || "–"],
  ], name + ", as of " + when(found.as_of)));
}

async function activities() {
  const {activities: found} = await get("/v1/activities");
  put($("activities").querySelector("div"), found.length ? table(["activity", "state", ""],
    found.map((each) => [each.name, each.state, button("how it goes", () => board(each.name))]))
    : nothing("No activity is defined."));
}
async function board(name) {
  const here = "/v1/activities/" + encodeURIComponent(name);
  const shown = await get(here);
  const totals = Object.entries(shown.totals || {}).map(([what, value]) => [what, right(String(value))]);
  const rewards = Object.entries(shown.rewards || {}).map(([what, each]) =>
    [what, right(count(each.earned) + " earned, " + count(each.given) + " given, of " + count(each.stock))]);
  const rows = [["participants", right(count(shown.participants))], ...totals, ...rewards];
  const content = [table(["", ""], rows, name + ": " + shown.state)];
  try {
    const {lines} = await get(here + "/board");
    content.push(table([right("place"), "user", right("value")],
      lines.map((line) => [right(String(line.rank)), line.user_id, right(String(line.value))]), "Leaderboard"));
  } catch (error) { content.push(nothing(error.message)); }
  put($("board"), ...content);
}

async function learning() {
  const found = await get("/v1/policies");
  const rows = [];
  for (const role of ["live", "apprentice", "shadow"]) if (found[role])
    for (const [what, value] of Object.entries(found[role])) if (typeof value !== "object")
      rows.push([role, what, typeof value === "number" ? right(count(value)) : String(value)]);
  put($("learning").querySelector("div"), rows.length ? table(["policy", "", ""], rows)
    : nothing("Nothing was decided in real time yet."), found.trouble ? nothing(found.trouble) : "");
}

async function definitions() {
  const {definitions: found} = await get("/v1/definitions");
  put($("definitions").querySelector("div"), found.length ? table(["kind", "name", "", ""],
    found.map((each) => [each.kind, each.name, each.label || "", button("history", async () => {
      const {versions} = await get("/v1/definitions/" + each.kind + "/" + encodeURIComponent(each.name) + "/history");
      put($("log"), table(["version", "when", "who", "why"],
        versions.map((one) => [String(one.version), when(one.at), one.by, one.why]), each.kind + " " + each.name));
    })])) : nothing("Nothing is defined."));
}

async function health() {
  const answer = await fetch("/readyz");
  const said = await answer.json();
  $("health").textContent = answer.ok ? "ready" : "not ready: " + JSON.stringify(said.unready || said);
}
async function everything(shows) {
  const became = await Promise.allSettled(shows.map((show) => show()));
  const broken = became.find((each) => each.status === "rejected");
  tell(broken ? broken.reason : null);
  $("refreshed").textContent = "· as of " + new Date().toLocaleTimeString();
}
const ALL = [health, days, touches, rules, activities, learning, definitions];

$("day").addEventListener("change", () => during($("day"), showDay));
$("limit").addEventListener("change", () => {
  $("most").value = plan.allocation.limits.find((each) => each.name === $("limit").value).at_most;
});
$("approve").addEventListener("click", () => during($("approve"), decide("approved")));
$("hold").addEventListener("click", () => during($("hold"), decide("held")));
$("report").addEventListener("click", () => during($("report"), report));
on("make", async () => { await post("/v1/plans", {date: $("planned").value}); await days(); });
on("whatif", whatIf);
on("explain", explain);
on("door", async () => { sessionStorage.setItem("token", $("token").value); $("token").value = ""; await everything(ALL); });
everything(ALL);
setInterval(() => { if (!document.hidden && $("door").hidden) everything([health, days, touches, rules, learning]); }, 10000);
