// The one tool that the requests offer, as JSON schema.
export const weather = {
  name: 'weather',
  description: 'The weather of a town',
  parameters: { type: 'object', properties: { town: { type: 'string' } }, required: ['town'], additionalProperties: false },
}
export const dataUrl = (image) => `data:image/png;base64,${image}`
