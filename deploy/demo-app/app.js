// A small SMART app: it is opened by an EHR (launch/) or by its user (the page
// at the top), and shows the patient it was let see (callback/).
// https://hl7.org/fhir/smart-app-launch/app-launch.html
"use strict";

const app = {
  clientId: "demo-app",
  redirectUri: new URL(document.currentScript.src).origin + "/callback",
  pkceMode: "required",
};
const rights = "openid fhirUser offline_access patient/*.rs";

const at = (id) => document.getElementById(id);
const say = (words) => { document.querySelector("[role=status]").textContent = words; };

// tried says what went wrong, if something does.
const tried = (promise) => promise.catch((err) => say("That did not work: " + err.message));

const pages = {
  start() {
    at("iss").value = new URLSearchParams(location.search).get("iss") || "";
    document.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      tried(FHIR.oauth2.authorize({ ...app, iss: at("iss").value, scope: "launch/patient " + rights }));
    });
  },

  launch() {
    tried(FHIR.oauth2.authorize({ ...app, scope: "launch " + rights }));
  },

  patient() {
    tried(FHIR.oauth2.ready().then(show));
  },
};

// show reads the patient with the token.
async function show(client) {
  const patient = await client.patient.read();
  const name = (patient.name || [])[0] || {};
  at("name").textContent = name.text || [...(name.given || []), name.family].join(" ");
  at("born").textContent = patient.birthDate || "unknown";
  at("user").textContent = client.getFhirUser() || "unknown";
  at("scope").textContent = client.getState("tokenResponse.scope");
  at("refresh").onclick = () => tried(refresh(client));
  at("logout").onclick = () => tried(logOut(client));
  at("record").hidden = false;
  say("");
}

async function refresh(client) {
  const old = client.getState("tokenResponse.access_token");
  await client.refresh();
  await client.patient.read();
  say(client.getState("tokenResponse.access_token") === old ? "The token is the same." : "There is a new token.");
}

// logOut gives back what the user has allowed, and forgets it.
// https://www.rfc-editor.org/rfc/rfc7009
async function logOut(client) {
  const found = await fetch(client.state.serverUrl + "/.well-known/smart-configuration");
  const answer = await fetch((await found.json()).revocation_endpoint, {
    method: "POST",
    body: new URLSearchParams({ token: client.getState("tokenResponse.refresh_token"), client_id: app.clientId }),
  });
  if (!answer.ok) {
    throw new Error("the server answers " + answer.status);
  }
  sessionStorage.clear();
  at("record").hidden = true;
  say("You are logged out.");
}

pages[document.body.dataset.page]();
