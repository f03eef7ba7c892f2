// Sends the token to the server, which answers with a cookie. The token is typed, or it is in the
// fragment of the address, which browsers do not send, and from which it is removed here.

const status = document.getElementById("said");
const field = document.getElementById("token");

async function enter(token) {
  status.textContent = "";
  const answer = await fetch("/enter", { method: "POST", body: JSON.stringify({ token }) });
  if (answer.ok) location.reload();
  else status.textContent = answer.status === 401 ? "Wrong token." : await answer.text();
}

document.getElementById("form").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(field.value.trim());
});

const fragment = new URLSearchParams(location.hash.slice(1));
const token = fragment.get("token");
if (token !== null) {
  fragment.delete("token");
  history.replaceState(null, "", fragment.size ? `#${fragment}` : location.pathname);
  enter(token);
} else field.focus();
