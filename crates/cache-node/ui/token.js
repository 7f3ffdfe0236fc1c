// The page that asks for a token, where the node wants one.

import { h } from "./dom.js";
import { forgetToken, get, hasToken, useToken, why } from "./api.js";

/** Shows the form in `root`; `entered()` is called once the node takes the token. */
export function askForToken(root, refusal, entered) {
  const wrong = h("p", { class: "bad-text", id: "token-wrong", role: "alert" });
  const field = h("input", { type: "password", id: "token", name: "token", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "token-wrong token-note" });
  const button = h("button", { type: "submit" }, "Use token");
  const tell = (error) => { wrong.textContent = error.status === 401 ? `The node refused this token: ${error.message}.` : why(error); };
  // A token that was shown and refused is no use any more; without one, the question alone says enough.
  if (hasToken() && refusal) tell(refusal);
  forgetToken();
  const form = h("form", { class: "token panel", onsubmit: async (event) => {
    event.preventDefault();
    wrong.textContent = "";
    const text = field.value.trim();
    if (!/^[\x21-\x7e]+$/.test(text)) {
      wrong.textContent = "A token is one word of plain characters.";
      return field.focus();
    }
    button.disabled = true;
    useToken(text);
    try {
      await get("/cache/stats");
      entered();
    } catch (error) {
      forgetToken();
      tell(error);
      field.select();
      field.focus();
    } finally {
      button.disabled = false;
    }
  } },
    h("h1", { tabindex: "-1" }, "This node asks for a token"),
    h("p", {}, "Enter a bearer token of this node. With the scope “read” you can look at everything; “invalidate” and “write” allow changes."),
    h("label", { for: "token" }, "Token"), h("div", { class: "inline" }, field, button), wrong,
    h("p", { class: "note", id: "token-note" }, "It is kept in this tab until you close it or choose “Forget token”, and is sent in a header, never in an address."));
  root.replaceChildren(form);
  field.focus();
}
