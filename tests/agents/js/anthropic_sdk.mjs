// Anthropic's library.
import Anthropic from '@anthropic-ai/sdk'
import { weather } from './weather.mjs'

const block = (data) => ({ type: 'image', source: { type: 'base64', media_type: 'image/png', data } })

const message = ({ role, text, image, call }) => {
  if (role === 'tool') return { role: 'user', content: [{ type: 'tool_result', tool_use_id: call.id, content: text }] }
  const said = text ? [{ type: 'text', text }] : []
  if (image) said.unshift(block(image))
  if (call) said.push({ type: 'tool_use', id: call.id, name: call.name, input: JSON.parse(call.arguments) })
  return { role, content: said }
}

const read = ({ content }) => {
  const call = content.find((one) => one.type === 'tool_use')
  const text = content.map((one) => one.text ?? '').join('')
  return { text, call: call && { id: call.id, name: call.name, arguments: JSON.stringify(call.input) } }
}

const ask = async ({ url, token, model, messages, tools, stream, signal, onPiece }) => {
  const { parameters, ...named } = weather
  const offered = tools ? { tools: [{ ...named, input_schema: parameters }] } : {}
  const asked = { model, max_tokens: 20000, messages: messages.map(message), ...offered }
  const client = new Anthropic({ baseURL: url, authToken: token, apiKey: null })
  if (!stream) return read(await client.messages.create({ ...asked, max_tokens: 1000 }, { signal }))
  return read(await client.messages.stream(asked, { signal }).on('text', onPiece).finalMessage())
}

export const adapters = { 'anthropic-sdk': ask }
