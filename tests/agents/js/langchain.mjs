// LangChain.js with three of its models.
import { ChatAnthropic } from '@langchain/anthropic'
import { AIMessage, HumanMessage, ToolMessage } from '@langchain/core/messages'
import { ChatOllama } from '@langchain/ollama'
import { ChatOpenAI } from '@langchain/openai'
import { dataUrl, weather } from './weather.mjs'

const message = ({ role, text, image, call }) => {
  if (role === 'tool') return new ToolMessage({ content: text, tool_call_id: call.id, name: call.name })
  const calls = call ? [{ id: call.id, name: call.name, args: JSON.parse(call.arguments) }] : []
  if (role === 'assistant') return new AIMessage({ content: text, tool_calls: calls })
  const picture = { type: 'image_url', image_url: { url: dataUrl(image) } }
  return new HumanMessage(image ? { content: [{ type: 'text', text }, picture] } : { content: text })
}

const read = ({ text, tool_calls: calls }) => {
  const call = calls?.[0]
  return { text, call: call && { id: call.id, name: call.name, arguments: JSON.stringify(call.args) } }
}

const asking = (made) => async ({ url, token, model, messages, tools, stream, signal, onPiece }) => {
  const chat = made(url, token, model)
  const able = tools ? chat.bindTools([{ type: 'function', function: weather }]) : chat
  const asked = messages.map(message)
  if (!stream) return read(await able.invoke(asked, { signal }))
  let whole
  for await (const piece of await able.stream(asked, { signal })) {
    whole = whole ? whole.concat(piece) : piece
    onPiece()
  }
  signal.throwIfAborted()
  return read(whole)
}

export const adapters = {
  'langchain-js openai': asking(
    (url, apiKey, model) => new ChatOpenAI({ model, apiKey, configuration: { baseURL: `${url}/v1` } }),
  ),
  'langchain-js anthropic': asking(
    (url, apiKey, model) => new ChatAnthropic({ model, apiKey, anthropicApiUrl: url, maxTokens: 1000 }),
  ),
  'langchain-js ollama': asking(
    (baseUrl, token, model) =>
      new ChatOllama({ model, baseUrl, headers: new Headers({ Authorization: `Bearer ${token}` }) }),
  ),
}
