// ollama-js.
import { Ollama } from 'ollama'
import { weather } from './weather.mjs'

const message = ({ role, text, image, call }) => {
  if (role === 'tool') return { role, content: text, tool_name: call.name }
  const calls = call ? { tool_calls: [{ function: { name: call.name, arguments: JSON.parse(call.arguments) } }] } : {}
  return { role, content: text, ...(image ? { images: [image] } : {}), ...calls }
}

const calledIn = ({ tool_calls: calls }) => {
  const called = calls?.[0]?.function
  return called && { id: '', name: called.name, arguments: JSON.stringify(called.arguments) }
}

const ask = async ({ url, token, model, messages, tools, stream, signal, onPiece }) => {
  const client = new Ollama({ host: url, headers: { Authorization: `Bearer ${token}` } })
  const offered = tools ? { tools: [{ type: 'function', function: weather }] } : {}
  const asked = { model, messages: messages.map(message), ...offered }
  if (!stream) {
    const { message: given } = await client.chat(asked)
    return { text: given.content, call: calledIn(given) }
  }
  const running = await client.chat({ ...asked, stream: true })
  signal.addEventListener('abort', () => running.abort())
  let text = ''
  let call
  for await (const { message: given } of running) {
    text += given.content
    call ??= calledIn(given)
    onPiece()
  }
  return { text, call }
}

export const adapters = { 'ollama-js': ask }
