// The text box: what a person is writing.

export const message = document.getElementById("message");

/** Let the text box grow with what is written, where the browser does not do so by itself. */
function fit() {
  if (CSS.supports("field-sizing", "content")) return;
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight + 2}px`;
}

/** Put texts into the box, those that are not empty, joined by `between`. */
export function put(texts, between = " ") {
  message.value = texts.filter(Boolean).join(between);
  fit();
}

/** Call `send` when Enter is pressed alone. */
export function setUpBox(send) {
  message.addEventListener("input", fit);
  message.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
}
