// The site's resources. A problem is an Error whose message the reader can understand.

let csrf = null;

export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function request(method, address, { body, headers = {} } = {}) {
  const options = { method, headers: { Accept: "application/json", ...headers } };
  if (csrf && method !== "GET") options.headers["X-CSRF-Token"] = csrf;
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Problem(0, "The server does not answer. Trying again is worth it in a moment.");
  }
  const text = await response.text();
  if (response.ok) return text ? JSON.parse(text) : null;
  let detail = "";
  try {
    detail = JSON.parse(text).detail;
  } catch {
    // Not from the application: a proxy's own page, perhaps.
  }
  throw new Problem(response.status, detail || `The server answered ${response.status}.`);
}

export const get = (address) => request("GET", address);

// Who has signed in; the token is what requests that change something must repeat.
export async function session() {
  const resource = await get("/dataserver2/session");
  csrf = resource.csrf;
  return resource.name;
}

export async function signIn(token, name) {
  const resource = await request("POST", "/dataserver2/session", { body: { token, name } });
  csrf = resource.csrf;
  return resource.name;
}

export async function signOut() {
  await request("DELETE", "/dataserver2/session");
  csrf = null;
}
