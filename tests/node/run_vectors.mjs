// Runs vectors against a live daemon: node run_vectors.mjs SOCKET FILE ...
// Sends each step's bytes, receives as many frames as the step expects, and compares them byte for byte, with what
// differs from run to run behind its placeholder. Exit code 1 and a line for each difference.
import { readFileSync } from 'node:fs'
import { Client, decode } from './client.mjs'

const [path, ...files] = process.argv.slice(2)
let wrong = 0

const shown = (frame, lines, names) => {
  if (lines) {
    const member = new RegExp(`"(${names.join('|')})":("(?:[^"\\\\]|\\\\.)+"|-?[\\d.eE+-]+|\\{[^{}]+\\}|\\[[^\\]]+\\])`, 'g')
    return frame.toString().replace(member, (whole, name, value) =>
      /^-?0(\.0)?$/.test(value) || (name === 'version' && value[0] !== '"') ? whole : `"${name}":<${name}>`)
  }
  const hidden = []
  decode(frame, undefined, (value, key, from, to) => {
    const empty = !value || value.length === 0 || (typeof value === 'object' && !Object.keys(value).length)
    if (names.includes(key) && !empty && (key !== 'version' || typeof value === 'string')) hidden.push([key, from, to])
    return value
  })
  let out = '', at = 0
  for (const [key, from, to] of hidden.sort((a, b) => a[1] - b[1])) {
    if (from < at) continue // inside of what is hidden already
    out += frame.toString('hex', at, from) + `<${key}>`
    at = to
  }
  return out + frame.toString('hex', at)
}

for (const file of files) {
  const { placeholders, framing, conversations } = JSON.parse(readFileSync(file, 'utf8'))
  const lines = framing === 'lines'
  for (const { name, steps } of conversations) {
    const client = new Client(path, framing)
    const differ = (step, what) => { wrong++; console.log(`${framing} ${name}, step ${step + 1}: ${what}`) }
    for (const [index, { call, send, receive }] of steps.entries()) {
      const bytes = lines ? Buffer.from(send) : Buffer.from(send, 'hex')
      if (call && !client.message(...call).equals(bytes)) differ(index, `this client writes the call as ${client.message(...call).toString(lines ? 'utf8' : 'hex')}`)
      client.socket.write(bytes)
      for (const wanted of receive) {
        const frame = await client.receive()
        const got = frame === null ? 'the end' : shown(frame, lines, placeholders)
        if (got !== wanted) differ(index, `\n  expected ${wanted}\n  received ${got}`)
        if (frame === null) break
      }
    }
    client.socket.end()
    const more = await client.receive()
    if (more) differ(steps.length - 1, `more than expected: ${more.toString(lines ? 'utf8' : 'hex')}`)
    client.socket.destroy()
  }
}
process.exit(wrong ? 1 : 0)
