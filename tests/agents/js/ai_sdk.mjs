// Vercel's AI SDK with three of its providers.
import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateText, jsonSchema, streamText, tool } from 'ai'
import { weather } from './weather.mjs'

const message = ({ role, text, image, call }) => {
  const named = call && { toolCallId: call.id, toolName: call.name }
  if (role === 'tool') {
    return { role, content: [{ type: 'tool-result', ...named, output: { type: 'text', value: text } }] }
  }
  const content = text ? [{ type: 'text', text }] : []
  if (image) content.push({ type: 'file', data: Buffer.from(image, 'base64'), mediaType: 'image/png' })
  if (call) content.push({ type: 'tool-call', ...named, input: JSON.parse(call.arguments) })
  return { role, content }
}

const called = (calls) => {
  const call = calls[0]
  return call && { id: call.toolCallId, name: call.toolName, arguments: JSON.stringify(call.input) }
}

const asking = (provider) => async ({ url, token, model, messages, tools, stream, signal, onPiece }) => {
  const offered = tools
    ? { tools: { weather: tool({ description: weather.description, inputSchema: jsonSchema(weather.parameters) }) } }
    : {}
  const asked = { model: provider(url, token, model), messages: messages.map(message), abortSignal: signal, ...offered }
  if (!stream) {
    const { text, toolCalls } = await generateText(asked)
    return { text, call: called(toolCalls) }
  }
  let failed
  const running = streamText({ ...asked, onError: ({ error }) => (failed = error) })
  let text = ''
  for await (const piece of running.textStream) {
    text += piece
    onPiece()
  }
  if (failed) throw failed
  signal.throwIfAborted()
  return { text, call: called(await running.toolCalls) }
}

export const adapters = {
  'ai-sdk openai': asking((url, apiKey, model) => createOpenAI({ baseURL: `${url}/v1`, apiKey })(model)),
  'ai-sdk openai-compatible': asking((url, apiKey, model) =>
    createOpenAICompatible({ name: 'router', baseURL: `${url}/v1`, apiKey, includeUsage: true })(model),
  ),
  'ai-sdk anthropic': asking((url, authToken, model) =>
    createAnthropic({ baseURL: `${url}/v1`, authToken })(model),
  ),
}
