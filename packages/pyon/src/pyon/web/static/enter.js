// Shows the token to the server, which answers with a cookie. The token comes by hand, or behind the
// # of the address, which browsers do not send; it is taken out of there.

const said = document.getElementById("said");
const field = document.getElementById("token");

async function enter(token) {
  said.textContent = "";
  const answer = await fetch("/enter", { method: "POST", body: JSON.stringify({ token }) });
  if (answer.ok) location.reload();
  else said.textContent = answer.status === 401 ? "This is not the token." : await answer.text();
}

document.getElementById("form").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(field.value.trim());
});

const marks = new URLSearchParams(location.hash.slice(1));
const token = marks.get("token");
if (token !== null) {
  marks.delete("token");
  history.replaceState(null, "", marks.size ? `#${marks}` : location.pathname);
  enter(token);
} else field.focus();
