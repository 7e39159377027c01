// openai-node: chat completions and Responses.
import OpenAI from 'openai'
import { dataUrl, weather } from './weather.mjs'

const client = ({ url, token }) => new OpenAI({ baseURL: `${url}/v1`, apiKey: token })

const chatMessage = ({ role, text, image, call }) => {
  if (role === 'tool') return { role, content: text, tool_call_id: call.id }
  if (image) return { role, content: [{ type: 'text', text }, { type: 'image_url', image_url: { url: dataUrl(image) } }] }
  if (!call) return { role, content: text }
  const { id, name, arguments: args } = call
  return { role, content: text || null, tool_calls: [{ id, type: 'function', function: { name, arguments: args } }] }
}

const chatAnswer = ({ content, tool_calls: calls }) => {
  const call = calls?.[0]
  return { text: content ?? '', call: call && { id: call.id, ...call.function } }
}

const chat = async ({ model, messages, tools, stream, signal, onPiece, ...where }) => {
  const offered = tools ? { tools: [{ type: 'function', function: weather }] } : {}
  const asked = { model, messages: messages.map(chatMessage), ...offered }
  if (!stream) return chatAnswer((await client(where).chat.completions.create(asked, { signal })).choices[0].message)
  const running = client(where).chat.completions.stream(asked, { signal }).on('content', onPiece)
  return chatAnswer(await running.finalMessage())
}

const items = ({ role, text, image, call }) => {
  if (role === 'tool') return [{ type: 'function_call_output', call_id: call.id, output: text }]
  const kind = role === 'user' ? 'input_text' : 'output_text'
  const content = [{ type: kind, text }]
  if (image) content.push({ type: 'input_image', image_url: dataUrl(image), detail: 'auto' })
  const said = text ? [{ type: 'message', role, content }] : []
  if (!call) return said
  const { id, name, arguments: args } = call
  return [...said, { type: 'function_call', call_id: id, name, arguments: args }]
}

const responsesAnswer = (response) => {
  const call = response.output.find((item) => item.type === 'function_call')
  return { text: response.output_text, call: call && { id: call.call_id, name: call.name, arguments: call.arguments } }
}

const responses = async ({ model, messages, tools, stream, signal, onPiece, ...where }) => {
  const offered = tools ? { tools: [{ type: 'function', strict: true, ...weather }] } : {}
  const asked = { model, input: messages.flatMap(items), store: false, ...offered }
  if (!stream) return responsesAnswer(await client(where).responses.create(asked, { signal }))
  const running = client(where).responses.stream(asked, { signal }).on('response.output_text.delta', onPiece)
  return responsesAnswer(await running.finalResponse())
}

export const adapters = { 'openai-node chat': chat, 'openai-node responses': responses }
