// The question before something is invalidated, and what came of it.

import { ask, why } from "../api.js";
import { h, say } from "../dom.js";

let made = null;

function build() {
  const what = h("p", { class: "what", id: "invalidate-what" });
  const reason = h("input", { id: "reason", required: true, maxlength: "300", autocomplete: "off", "aria-describedby": "invalidate-what invalidate-wrong" });
  const wrong = h("p", { class: "bad-text", id: "invalidate-wrong", role: "alert" });
  const go = h("button", { type: "submit", class: "danger" }, "Invalidate");
  const back = h("button", { type: "button", class: "plain" }, "Keep it");
  const form = h("form", {}, h("h2", { id: "invalidate-title" }, "Invalidate on all nodes?"), what,
    h("p", { class: "note" }, "The next read goes to the source. This is written into the audit with the reason."),
    h("label", { for: "reason" }, "Reason"), reason, wrong, h("div", { class: "inline end" }, back, go));
  const dialog = h("dialog", { "aria-labelledby": "invalidate-title" }, form);
  back.addEventListener("click", () => dialog.close());
  document.body.append(dialog);
  return { dialog, form, what, reason, wrong, go };
}

/** Asks for a reason and a confirmation; `body` is that of `POST /cache/invalidate` without the reason. */
export function invalidate(body, described, { signal, announce, done }) {
  made ??= build();
  const { dialog, form, what, reason, wrong, go } = made;
  say(what, described);
  reason.value = "";
  wrong.textContent = "";
  go.disabled = false;
  form.onsubmit = async (event) => {
    event.preventDefault();
    if (!reason.value.trim()) {
      wrong.textContent = "Say why.";
      return reason.focus();
    }
    go.disabled = true;
    try {
      await ask("POST", "/cache/invalidate", { body: { ...body, reason: reason.value.trim() } });
      dialog.close();
      announce(`${described} is invalidated on all nodes.`);
      done?.();
    } catch (error) {
      if (error.status === 401) dialog.close();
      wrong.textContent = why(error);
      go.disabled = false;
    }
  };
  signal.addEventListener("abort", () => dialog.close(), { once: true });
  dialog.showModal();
  reason.focus();
}
