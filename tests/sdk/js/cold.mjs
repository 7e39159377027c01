// Makes one streamed call while its model is loaded, and prints what was said and whether the head of the answer came
// before any server's: it cannot name one then. The judging is done in test_cold_load.py.
import { Ollama } from 'ollama'
import OpenAI from 'openai'

const { ROUTER_URL: url, USER_TOKEN: token } = process.env
const model = 'llama3.1:8b'
const messages = [{ role: 'user', content: 'say hi' }]
let early = null
const watched = async (...request) => {
  const answer = await fetch(...request)
  early = answer.headers.has('x-router-request-id') && !answer.headers.has('x-router-server')
  return answer
}
const ollama = new Ollama({ host: url, headers: { Authorization: `Bearer ${token}` }, fetch: watched })
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: token, maxRetries: 0, fetch: watched })

const joined = async (stream, text) => {
  const pieces = []
  for await (const piece of await stream) pieces.push(text(piece) ?? '')
  return pieces.join('')
}

const calls = {
  'ollama.chat': () => joined(ollama.chat({ model, messages, stream: true }), (one) => one.message.content),
  'ollama.generate': () => joined(ollama.generate({ model, prompt: 'hi', stream: true }), (one) => one.response),
  'openai.chat': () =>
    joined(openai.chat.completions.create({ model, messages, stream: true }), (one) => one.choices[0]?.delta.content),
  'openai.responses': () =>
    joined(openai.responses.create({ model, input: 'hi', stream: true }), (one) =>
      one.type === 'response.output_text.delta' ? one.delta : '',
    ),
}

const text = await calls[process.argv[2]]()
process.stdout.write(`${JSON.stringify({ text, early })}\n`)
