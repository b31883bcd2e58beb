// The pages work without this file; it makes dialogs modal, copies, and sends a form once.

const dialog = document.querySelector("dialog[data-modal]");
if (dialog) {
  dialog.removeAttribute("open"); // it was open as a part of the page; a modal one has to be opened anew
  dialog.showModal();
  dialog.addEventListener("close", () => document.getElementById(dialog.dataset.modal).requestSubmit());
}

const answer = document.querySelector("[data-address]"); // to a POST, whose own address no page has
if (answer) history.replaceState(null, "", answer.dataset.address); // a reload leads there, and sends nothing again

const secret = document.querySelector("[data-secret]");
if (secret) addEventListener("pagehide", () => secret.remove()); // Back finds none in a page kept alive

for (const button of document.querySelectorAll("[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  const result = document.querySelector("[data-copied]"); // its words are the template's, in the user's language
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
