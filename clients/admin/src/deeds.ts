/**
 * What an operator does: asks before, does it, and shows what came of it. app.ts owns one. The list of deeds is this
 * page's own and ends with it.
 */
import { at, fill, h } from "./dom.ts";
import * as show from "./format.ts";

/** Deeds that are listed. */
const LISTED_MAX = 20;

export interface Deed {
  /** The question. */
  title: string;
  /** What will happen. */
  text: string;
  /** The button's word. */
  verb: string;
  /** What is being done, for the list. */
  doing: string;
  /** Does it; answers what came of it. */
  run(): Promise<string>;
}

export class Deeds {
  private readonly dialog = at<HTMLDialogElement>("confirm");
  private readonly list = at("done-list");

  /** Asks, and does it where the answer is yes. Resolves when it is done, refused or failed. */
  async ask(deed: Deed): Promise<boolean> {
    const { dialog } = this;
    if (dialog.open) return false;
    fill(at("confirm-title"), deed.title);
    fill(at("confirm-text"), deed.text);
    fill(at("confirm-yes"), deed.verb);
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
    if (dialog.returnValue !== "yes") return false;
    return this.run(deed);
  }

  private async run(deed: Deed): Promise<boolean> {
    const outcome = h("span", { class: "outcome" }, "…");
    const entry = h("li", { "data-state": "doing" }, h("time", {}, show.clock(Date.now())), h("span", {}, deed.doing), outcome);
    at("done").hidden = false;
    this.list.prepend(entry);
    while (this.list.childElementCount > LISTED_MAX) this.list.lastElementChild?.remove();
    try {
      outcome.textContent = await deed.run();
      entry.dataset["state"] = "done";
      return true;
    } catch (error) {
      outcome.textContent = error instanceof Error ? error.message : String(error);
      entry.dataset["state"] = "failed";
      return false;
    }
  }
}
