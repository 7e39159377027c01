// Calls every method of the JavaScript clients that talks to a server and prints one JSON object: by name, what it
// returned or how it failed. The judging is done in test_javascript.py.
import { createReadStream } from 'node:fs'
import { Blob } from 'node:buffer'
import { Ollama } from 'ollama'
import OpenAI from 'openai'

const { ROUTER_URL: url, USER_TOKEN: token, ADMIN_TOKEN: adminToken } = process.env
const model = 'llama3.1:8b'
const messages = [{ role: 'user', content: 'say hi' }]
const bearer = (value) => ({ Authorization: `Bearer ${value}` })
const user = new Ollama({ host: url, headers: bearer(token) })
const admin = new Ollama({ host: url, headers: bearer(adminToken) })
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: token, maxRetries: 0 })
const weather = { type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: {} } } }

const collect = async (stream) => {
  const pieces = []
  for await (const piece of await stream) pieces.push(piece)
  return pieces
}
const last = async (stream) => (await collect(stream)).at(-1)
const joined = async (stream, text) => (await collect(stream)).map(text).join('')

const calls = {
  'ollama.list': async () => (await user.list()).models.map((one) => one.name).sort(),
  'ollama.version': async () => (await user.version()).version,
  'ollama.ps': async () => {
    await user.generate({ model, prompt: '' })
    return (await user.ps()).models.map((one) => one.name)
  },
  'ollama.show': async () => (await user.show({ model })).model_info['llama.block_count'],
  'ollama.chat': async () => (await user.chat({ model, messages })).message.content,
  'ollama.chat streamed': () =>
    joined(user.chat({ model, messages, stream: true }), (one) => one.message.content),
  'ollama.chat with tools': async () => {
    const asked = [{ role: 'user', content: 'use the weather tool' }]
    const answer = await user.chat({ model, messages: asked, tools: [weather] })
    return answer.message.tool_calls[0].function.name
  },
  'ollama.chat aborted': async () => {
    const stream = await user.chat({ model, messages, stream: true })
    stream.abort()
    return await collect(stream).catch((error) => error.name)
  },
  'ollama.generate': async () => (await user.generate({ model, prompt: 'hi' })).response,
  'ollama.generate streamed': () =>
    joined(user.generate({ model, prompt: 'hi', stream: true }), (one) => one.response),
  'ollama.generate with an image': async () =>
    (await user.generate({ model: 'gemma3:12b', prompt: 'what', images: [new Uint8Array([1, 2])] })).response,
  'ollama.embed': async () =>
    (await user.embed({ model: 'nomic-embed-text', input: ['x', 'y'] })).embeddings.map((one) => one.length),
  'ollama.embeddings': async () =>
    (await user.embeddings({ model: 'nomic-embed-text', prompt: 'x' })).embedding.length,
  'ollama.pull': async () => (await admin.pull({ model: 'mistral:7b' })).status,
  'ollama.pull streamed': async () => (await last(admin.pull({ model: 'mistral:7b', stream: true }))).status,
  'ollama.copy': async () => (await admin.copy({ source: model, destination: 'bob/js' })).status,
  'ollama.push': async () => (await admin.push({ model: 'bob/js' })).status,
  'ollama.push streamed': async () => (await last(admin.push({ model: 'bob/js', stream: true }))).status,
  'ollama.create': async () => (await admin.create({ model: 'js-made', from: model, system: 'Be brief.' })).status,
  'ollama.create streamed': async () =>
    (await last(admin.create({ model: 'js-made', from: model, stream: true }))).status,
  'ollama.chat with what was created': async () => (await admin.chat({ model: 'js-made', messages })).message.content,
  'ollama.delete': async () => {
    const gone = [await admin.delete({ model: 'js-made' }), await admin.delete({ model: 'bob/js' })]
    return gone.map((one) => one.status)
  },
  'ollama.chat, missing model': () => user.chat({ model: 'nope', messages }),
  'ollama.chat streamed, missing model': () => user.chat({ model: 'nope', messages, stream: true }),
  'ollama.delete by a user': () => user.delete({ model }),
  'ollama.list by nobody': () => new Ollama({ host: url }).list(),
  'openai.chat.completions.create': async () =>
    (await openai.chat.completions.create({ model, messages })).choices[0].message.content,
  'openai.chat.completions.create streamed': () =>
    joined(openai.chat.completions.create({ model, messages, stream: true }), (one) => one.choices[0].delta.content),
  'openai.chat.completions.stream': () => openai.chat.completions.stream({ model, messages }).finalContent(),
  'openai.completions.create': async () => (await openai.completions.create({ model, prompt: 'hi' })).choices[0].text,
  'openai.completions.create streamed': () =>
    joined(openai.completions.create({ model, prompt: 'hi', stream: true }), (one) => one.choices[0].text),
  'openai.embeddings.create': async () =>
    (await openai.embeddings.create({ model: 'nomic-embed-text', input: ['x', 'y'] })).data.map(
      (one) => one.embedding.length,
    ),
  'openai.models.list': async () => (await collect(openai.models.list())).map((one) => one.id).sort(),
  'openai.models.retrieve': async () => (await openai.models.retrieve(model)).id,
  'openai.responses.create': async () => (await openai.responses.create({ model, input: 'hi' })).output_text,
  'openai.responses.create streamed': async () =>
    (await last(openai.responses.create({ model, input: 'hi', stream: true }))).type,
  'openai.responses.stream': async () =>
    (await openai.responses.stream({ model, input: 'hi' }).finalResponse()).output_text,
  'openai.audio.transcriptions.create': async () => {
    const file = await OpenAI.toFile(new Blob(['RIFF']).stream(), 'a.wav')
    return (await openai.audio.transcriptions.create({ model: 'listener:8b', file })).text
  },
  'openai.audio.transcriptions.create from a file': async () =>
    (await openai.audio.transcriptions.create({ model: 'listener:8b', file: createReadStream('package.json') })).text,
  'openai.chat.completions.create, missing model': () => openai.chat.completions.create({ model: 'nope', messages }),
  'openai.models.list by nobody': () =>
    new OpenAI({ baseURL: `${url}/v1`, apiKey: 'wrong', maxRetries: 0 }).models.list(),
}

const results = {}
for (const [name, call] of Object.entries(calls)) {
  try {
    results[name] = { value: await call() }
  } catch (error) {
    results[name] = { error: error.name, status: error.status_code ?? error.status ?? null, message: error.message }
  }
}
process.stdout.write(`\n${JSON.stringify(results)}\n`)
