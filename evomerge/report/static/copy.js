// A button that copies the text before which it stands; without scripts there is none.
"use strict";

customElements.define("evomerge-copy", class extends HTMLElement {
  connectedCallback() {
    if (this.firstChild) return;
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: this.getAttribute("label") });
    button.addEventListener("click", async () => {
      const text = this.nextElementSibling.textContent;
      const said = await this.copy(text) ? "copied" : "it could not be copied: select the text, and copy it by hand";
      button.textContent = said;
      const told = document.getElementById("told");
      if (told) told.textContent = said;
      setTimeout(() => { button.textContent = this.getAttribute("label"); }, 2500);
    });
    this.append(button);
  }

  async copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return false;
    }
  }
});
