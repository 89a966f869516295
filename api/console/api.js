// Requests with the tab's key, and server-sent events read from fetch (EventSource cannot send a key).

const KEY = "paramedic-key";
export const key = () => sessionStorage.getItem(KEY) || "";
export const setKey = (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY));

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function send(method, path, { body, headers = {}, signal } = {}) {
  const all = { ...headers };
  if (key()) all["Authorization"] = `Bearer ${key()}`;
  if (body !== undefined) all["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method, headers: all, signal, credentials: "omit", body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    if (answer.status === 401) document.dispatchEvent(new CustomEvent("key-wanted"));
    throw new Problem(answer.status, problem.detail || `the service answered ${answer.status}`);
  }
  return answer;
}

export const get = async (path) => (await send("GET", path)).json();
export const text = async (path) => (await send("GET", path)).text();
export const blob = async (path) => (await send("GET", path)).blob();
export const post = async (path, body) => (await send("POST", path, { body })).json();

export async function* events(method, path, options = {}) {
  const headers = { Accept: "text/event-stream", ...(options.headers || {}) };
  const answer = await send(method, path, { ...options, headers });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { name: "message", data: "", id: null };
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) event.name = line.slice(7);
        else if (line.startsWith("id: ")) event.id = line.slice(4);
        else if (line.startsWith("data: ")) event.data += line.slice(6);
      }
      if (event.data) yield { ...event, data: JSON.parse(event.data) };
    }
  }
}
