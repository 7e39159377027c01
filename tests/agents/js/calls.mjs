// One request after the other through a library: lines of JSON in, lines of JSON out. test_libraries.py says what a line
// holds and judges what comes back.
//
// A message is {role: user, text, image?}, {role: assistant, text, call?} or {role: tool, text, call}; `image` is a PNG in
// base64, a call is {id, name, arguments}. An adapter's `ask` gives {text, call} and tells `onPiece` of each piece.
import { createInterface } from 'node:readline'
import * as aiSdk from './ai_sdk.mjs'
import * as anthropic from './anthropic_sdk.mjs'
import * as langchain from './langchain.mjs'
import * as ollama from './ollama_js.mjs'
import * as openai from './openai_node.mjs'

const adapters = { ...aiSdk.adapters, ...anthropic.adapters, ...langchain.adapters, ...ollama.adapters, ...openai.adapters }

const failure = (error) => {
  const cause = error.lastError ?? error
  const status = cause.status ?? cause.statusCode ?? cause.status_code ?? cause.response?.status
  return { name: error.name, status, message: String(error.message) }
}

const answer = async ({ client, leaveAfter, ...asked }) => {
  const leaving = new AbortController()
  let pieces = 0
  const onPiece = () => {
    pieces += 1
    if (pieces === leaveAfter) leaving.abort()
  }
  try {
    const given = await adapters[client]({ ...asked, signal: leaving.signal, onPiece })
    return { text: given.text, call: given.call ?? null, pieces }
  } catch (error) {
    return { error: failure(error), pieces }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(`answer: ${JSON.stringify(await answer(JSON.parse(line)))}`)
}
