// The pages work without this file. It makes dialogs modal, copies to the clipboard, and submits a form only once.

const dialog = document.querySelector("dialog[data-modal]");
if (dialog) {
  dialog.removeAttribute("open"); // open as part of the page, it cannot become modal
  dialog.showModal();
  dialog.addEventListener("close", () => document.getElementById(dialog.dataset.modal).requestSubmit());
}

const answer = document.querySelector("[data-url]"); // to a POST, whose own URL has no page
if (answer) history.replaceState(null, "", answer.dataset.url); // a reload opens that page, and submits nothing again

const secret = document.querySelector("[data-secret]");
if (secret) addEventListener("pagehide", () => secret.remove()); // the Back button must not show it again (back/forward cache)

for (const button of document.querySelectorAll("[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  const result = document.querySelector("[data-copied]"); // with the texts, in the user's language
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = source.value ?? source.innerText;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = result.dataset.copiedButton;
      result.textContent = result.dataset.copied;
    } catch {
      if (source.select) source.select();
      else getSelection().selectAllChildren(source);
      result.textContent = result.dataset.notCopied;
    }
  });
}

for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
  });
}
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});
