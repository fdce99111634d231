() => {
  if (window.kdloop) return;
  const names = NAMES, words = WORDS;  // what Gradio calls a button -> which it is; language -> which -> our word
  const app = [(window.gradio_config || {}).app_id, HOME];  // another one after each start; the same on the same home
  const all = (found, at = document) => [...at.querySelectorAll(found)];
  const one = (found, at = document) => at.querySelector(found);
  const shown = element => element && element.offsetParent !== null && !element.disabled;
  const set = (element, name, value) => { if (element.getAttribute(name) !== value) element.setAttribute(name, value); };
  const language = (navigator.languages || ["en"]).map(tag => tag.slice(0, 2)).find(code => words[code]);
  const said = which => words[language || "en"][which];
  const wide = matchMedia("(hover: hover) and (min-width: 640px)");
  const box = () => one("#message textarea");
  const type = (area, text) => { area.value = text; area.dispatchEvent(new Event("input", {bubbles: true})); };
  const ask = (id, text) => {  // of a hidden box: Gradio hears Enter; it does not hear text that no key has typed
    const area = one(`#${id} textarea`);
    type(area, text);
    area.dispatchEvent(new KeyboardEvent("keypress", {key: "Enter", bubbles: true, cancelable: true}));
  };

  // Gradio's client (6.31) stops listening when the server has told all, even where it was promised more meanwhile, and
  // the page would wait until something else is asked: listen on
  const plain = window.fetch, promised = new Set();  // ids of events that have not been told to their end
  window.fetch = async (what, how) => {
    const url = String(what.url || what), reply = await plain(what, how);
    if (url.includes("/queue/join") && reply.ok) promised.add((await reply.clone().json()).event_id);
    if (!url.includes("/queue/data") || !reply.ok) return reply;
    let reader = reply.body.getReader(), rest = "";
    const decoder = new TextDecoder(), encoder = new TextEncoder();
    const next = async () => {  // the messages that have come whole
      for (;;) {
        const {done, value} = await reader.read(), parts = (rest += decoder.decode(value, {stream: !done})).split("\n\n");
        rest = parts.pop();
        const told = parts.filter(part => part.includes('"process_completed"'));
        told.forEach(part => promised.delete(JSON.parse(part.slice(part.indexOf("{"))).event_id));
        const over = parts.some(part => part.includes('"close_stream"')) && promised.size;
        const kept = parts.filter(part => !over || !part.includes('"close_stream"')).map(part => part + "\n\n").join("");
        if (over) { reader = (await plain(what, how)).body.getReader(); rest = ""; }
        if (kept || (done && !over)) return {kept, done: done && !over};
      }
    };
    const pull = async out => {
      const {kept, done} = await next();
      if (kept) out.enqueue(encoder.encode(kept));
      if (done) out.close();
    };
    return new Response(new ReadableStream({pull, cancel: why => reader.cancel(why)}), {headers: reply.headers});
  };

  // Addresses: ?tab=, ?c=, ?round=
  const query = () => new URLSearchParams(location.search);
  const to = (key, value, replace) => {
    const now = query();
    if ((now.get(key) || "") === (value || "")) return;
    if (value) now.set(key, value); else now.delete(key);
    if (key === "tab" && value !== "rounds") now.delete("round");
    const text = now.toString().replace(/=(?=&|$)/g, "");
    history[replace ? "replaceState" : "pushState"](null, "", location.pathname + (text ? "?" + text : ""));
  };
  const tabs = () => all("#tabs > .tab-wrapper [role=tab]");
  const selected = () => (tabs().find(tab => tab.getAttribute("aria-selected") === "true") || {dataset: {}}).dataset.tabId;
  const where = () => one("#where textarea").value;
  let round = "";
  let following = false, open = null, asked = 0;  // the conversation that is, or will be, open; when it was asked for
  const follow = () => {  // the page goes where the address says
    const wanted = query(), tab = wanted.get("tab") || "chat", c = wanted.get("c") || "";
    const button = tabs().find(t => t.dataset.tabId === tab);
    if (button && selected() !== tab) { following = true; button.click(); following = false; }
    if (c !== (open === null ? where() : open)) { putAway(); open = c; asked = performance.now(); ask("go", c); }
    const id = wanted.get("round") || "";
    if (tab === "rounds" && id !== round) waitFor(() => one("#go-round textarea, #go-round input"), () => ask("go-round", round = id));
  };
  const waitFor = (find, then, tries = 100) => {
    const found = find();
    if (found) then(found); else if (tries) setTimeout(() => waitFor(find, then, tries - 1), 100);
  };
  window.kdloop = {
    round: id => { round = id ? String(id) : ""; to("round", round); },
    moved: c => {  // a first message gives the chat its address
      if (!asked || performance.now() - asked > 5000) { open = c; to("c", c, !!c && !query().get("c")); }
      mark();
    },
    reopen: edit => { if (edit) reopen(...JSON.parse(edit).slice(0, 2)); },
    settled: c => { if (c === open) { asked = 0; to("c", c, true); } mark(); },  // what was asked for since comes later
  };
  addEventListener("popstate", follow);
  document.addEventListener("click", event => {
    const tab = event.target.closest("[role=tab]"), link = event.target.closest("a[href^='?']");
    if (tab && tab.dataset.tabId && !following) to("tab", tab.dataset.tabId === "chat" ? "" : tab.dataset.tabId);
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      const wanted = new URLSearchParams(link.getAttribute("href"));
      const deed = ["undo", "branch"].find(id => wanted.has(id));
      if (deed === "branch") putAway();
      if (deed) return ask(deed, wanted.get(deed));
      if (!wanted.has("c") && query().get("c")) wanted.set("c", query().get("c"));
      if (wanted.get("tab") === "chat") wanted.delete("tab");
      history.pushState(null, "", location.pathname + "?" + wanted);
      follow();
    }
    if (event.target.closest("#fresh, #chat-log [data-name=Clear]")) { putAway(); to("c", ""); open = ""; asked = performance.now(); }
    if (event.target.closest("#past a, #fresh") && innerWidth < 768) closeSidebar();
  });
  const closeSidebar = () => { const side = one(".sidebar.open .toggle-button"); if (side) side.click(); };

  // Editors of messages. Gradio keeps one open by its position, whatever text comes to stand there
  const putAway = () => waitFor(() => {  // they cannot be closed while an answer is written
    const open = all("#chat-log [data-name=Cancel]");
    open.forEach(button => button.click());
    return !open.length;
  }, () => {});
  const rows = () => all("#chat-log .message-row");
  const reopen = (at, text, c = where()) => waitFor(() => {  // after an answer that is being written, in this conversation
    if (where() !== c) return "elsewhere";
    const row = rows()[at], area = row && one("textarea", row), below = row && row.nextElementSibling;
    const pencil = below && one("[data-name=Edit]", below);
    if (!area && shown(pencil)) pencil.click();
    return area;
  }, area => area.nodeType && type(area, text), 6000);
  const edited = () => {  // what an open editor holds
    const at = rows().findIndex(row => one("textarea", row));
    return at < 0 ? null : [where(), at, one("textarea", rows()[at]).value];
  };

  // The list of conversations: its days, in the reader's own time, and which one is open
  const day = at => {
    const date = new Date(at), today = new Date();
    const ago = Math.round((new Date(today).setHours(0, 0, 0, 0) - new Date(date).setHours(0, 0, 0, 0)) / 864e5);
    if (ago < 2) return new Intl.RelativeTimeFormat(language, {numeric: "auto"}).format(-ago, "day");
    return date.toLocaleDateString(language, {dateStyle: "medium"});
  };
  const mark = () => {
    let last = "";
    all("#past li[data-at]").forEach(item => {
      const name = day(item.dataset.at), link = one("a", item);
      if (name !== last) set(item, "data-day", name); else item.removeAttribute("data-day");
      last = name;
      const open = new URLSearchParams(link.getAttribute("href")).get("c") === where();
      if (open) set(link, "aria-current", "true"); else link.removeAttribute("aria-current");
    });
  };

  // Keys: arrows vote, N goes on, U undoes, E corrects; arrows move along the tabs
  const keys = {ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", n: "next", u: "undo"};
  document.addEventListener("keydown", event => {
    const at = document.activeElement;
    if (at.closest("#teach-better") && event.key === "Enter" && event.shiftKey) setTimeout(() => at.blur());
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.repeat) return;
    if (at.getAttribute("role") === "tab") return along(event, at);
    if (["INPUT", "TEXTAREA", "SELECT"].includes(at.tagName)) return;
    const better = one("#teach-better textarea");
    if (event.key === "e" && shown(better)) { event.preventDefault(); better.focus(); }
    const name = keys[event.key], side = at.closest(".kd-sides > .kd-side");
    if (!name || (side && ["up", "down"].includes(name) && side.scrollHeight > side.clientHeight)) return;
    const button = all(`.kd-compare [id$="-${name}"]`).find(shown);
    if (button) { event.preventDefault(); button.click(); }
  });
  const along = (event, at) => {
    const list = all("[role=tab]", at.closest("[role=tablist]")), n = list.length, i = list.indexOf(at);
    const next = {ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: n - 1}[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const tab = list[(next + n) % n];
    tab.focus();
    tab.click();
  };

  // What is wrong or missing in Gradio's markup: the right attributes, or none (null)
  const roles = {
    ".examples[role=list]": {role: "group"},  // it holds buttons, no items
    ".toast-header[role=button]": {role: null, tabindex: null},  // a button that holds a button
    ".kd-sides > .kd-side": {role: "region", tabindex: "0"},  // it scrolls
    ".kd-compare": {role: "group", tabindex: "-1"},
    "#chat-log [role=log]": {"aria-live": "off"},  // rewritten at every word: `tell` says the answer once
  };
  let seen = null;  // the selected tab that was scrolled into view
  const mend = () => {
    Object.entries(roles).forEach(([found, attributes]) => all(found).forEach(element =>
      Object.entries(attributes).forEach(([name, value]) =>
        value === null ? element.removeAttribute(name) : set(element, name, value))));
    all(".kd-sides > .kd-side").forEach(side => set(side, "aria-label", (one(".kd-label", side) || {}).textContent || "…"));
    all("#chat-log textarea.edit-textarea").forEach(editor => set(editor, "aria-label", said("Editor")));
    all(".kd-branches a").forEach(arrow => set(arrow, "aria-label", arrow.title));
    all(".kd-compare [id$='-left'], .kd-compare [id$='-right'], .kd-compare [id$='-up'], .kd-compare [id$='-down']")
      .forEach(button => set(button, "aria-keyshortcuts", "Arrow" + button.id.replace(/.*-(.)/, (_, c) => c.toUpperCase())));
    all("#chat-log button[aria-label], .toggle-button").forEach(button => {
      const which = names[button.getAttribute("aria-label")] || button.dataset.name;
      if (!which) return;
      set(button, "data-name", which);
      set(button, "aria-label", said(which));
      set(button, "title", said(which));
      if (/Like|Dislike/.test(which)) set(button, "aria-pressed", String(which.endsWith("d")));
    });
    const side = one(".sidebar");
    if (side) one(".sidebar-content", side).inert = !side.classList.contains("open");
    tabs().forEach(tab => set(tab, "tabindex", tab.getAttribute("aria-selected") === "true" ? "0" : "-1"));
    const tab = tabs().find(t => t.tabIndex === 0);
    if (tab && tab !== seen) { seen = tab; tab.scrollIntoView({block: "nearest", inline: "nearest"}); }  // on a phone
    mark();
    compare();
    tell();
    fit();
  };

  // A comparison comes into view once, and takes the keys when both answers are done
  const compare = () => all(".kd-compare:not(.kd-read)").forEach(group => {
    const done = shown(group) && all("[id$='-left']", group).some(shown);
    if (!shown(group)) { delete group.dataset.seen; return; }
    if (!group.dataset.seen) { group.dataset.seen = "writing"; group.scrollIntoView({block: "nearest"}); }
    if (!done) { group.dataset.seen = "writing"; return; }
    if (group.dataset.seen === "done") {  // its texts are laid out a little later
      if (performance.now() < group.dataset.until) group.scrollIntoView({block: "nearest"});
      return;
    }
    group.dataset.seen = "done";
    group.dataset.until = performance.now() + 2000;
    group.scrollIntoView({block: "nearest"});
    const at = document.activeElement, free = at === document.body || (at === box() && !at.value);
    if (free || at.closest("#duel-prompt")) group.focus({preventScroll: true});
  });

  // One announcement an answer
  const status = document.createElement("div");
  status.id = "kd-said"; status.setAttribute("role", "status"); status.className = "sr-only";
  one(".gradio-container").append(status);
  let busy = false;
  const tell = () => {
    const log = one("#chat-log [role=log]");
    if (!log) return;
    const now = !!one("#chat-log.kd-writing");
    set(log, "aria-busy", String(now));
    if (busy && !now) {
      const last = all("#chat-log [data-testid=bot] .kd-text").pop();
      status.textContent = last && last.closest(".message-row") ? last.textContent.slice(0, 600) : "";
    }
    busy = now;
    if (now && one("#kd-restarted")) one("#kd-restarted").remove();
  };

  // The chat is as high as the window
  const fit = () => {
    const chat = one("#chat-page");
    if (!shown(chat)) return;
    const top = `${Math.round(chat.getBoundingClientRect().top + scrollY)}px`;
    if (chat.style.getPropertyValue("--kd-top") !== top) chat.style.setProperty("--kd-top", top);
  };
  addEventListener("resize", fit);

  let waiting = false;
  const observer = new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mend(); });
  });
  const watched = ["class", "aria-label", "aria-selected", "disabled", "style"];
  observer.observe(document.body, {childList: true, subtree: true, attributes: true, attributeFilter: watched});
  mend();

  // Gradio loads the page again when it finds the app restarted: one line says so, until the next answer
  const known = JSON.parse(sessionStorage.getItem("kdloop-app") || "null");
  sessionStorage.setItem("kdloop-app", JSON.stringify(app));
  if (known && known[0] !== app[0]) waitFor(() => one("#tabs"), tabs => {
    const line = document.createElement("p");
    line.id = "kd-restarted"; line.setAttribute("role", "status");
    tabs.before(line);
    line.textContent = said(app[1] && known[1] === app[1] ? "Restarted" : "Renewed");
  });

  // The draft, and what an editor holds, survive a reload, and a restart of the app
  addEventListener("pagehide", () => {
    if (box()) sessionStorage.setItem("kdloop-draft", box().value);
    sessionStorage.setItem("kdloop-edited", JSON.stringify(edited()));
  });
  waitFor(() => one("#header strong") && box(), area => {
    const draft = sessionStorage.getItem("kdloop-draft");
    const [c, at, text] = JSON.parse(sessionStorage.getItem("kdloop-edited")) || [];
    sessionStorage.removeItem("kdloop-draft");
    sessionStorage.removeItem("kdloop-edited");
    if (draft && !area.value) type(area, draft);
    if (c) waitFor(() => where() === c && rows()[at], () => reopen(at, text));
    if (query().get("tab")) follow();
    if (wide.matches && document.activeElement === document.body && shown(area)) area.focus({preventScroll: true});
  });
}
