// A client of cosession in Node, standard library only: both framings, calls, events. From client/PROTOCOL.md alone.
import net from 'node:net'

const CONSTANTS = { 0xc0: null, 0xc2: false, 0xc3: true }
const NUMBERS = { 0xca: ['Float', 4], 0xcb: ['Double', 8], 0xcc: ['UInt', 1], 0xcd: ['UInt', 2], 0xce: ['UInt', 4], 0xcf: ['BigUInt64', 8],
  0xd0: ['Int', 1], 0xd1: ['Int', 2], 0xd2: ['Int', 4], 0xd3: ['BigInt64', 8] }
const SIZED = { 0xd9: ['text', 1], 0xda: ['text', 2], 0xdb: ['text', 4], 0xdc: ['list', 2], 0xdd: ['list', 4], 0xde: ['map', 2], 0xdf: ['map', 4] }

const number = (type, kind, bytes, value) => { // a type byte, then the value as a big-endian number
  const out = Buffer.alloc(1 + bytes, type)
  out[`write${kind}BE`](kind.startsWith('Big') ? BigInt(value) : value, 1, bytes)
  return out
}
const shortest = (value, ...forms) => number(...forms.find(([, kind, bytes]) => bytes === 8
  || (kind === 'UInt' ? value < 2 ** (8 * bytes) : value >= -(2 ** (8 * bytes - 1)))), value)
const forms = (...types) => types.map(type => [type, ...(NUMBERS[type] ?? ['UInt', SIZED[type][1]])])
const sized = (size, fixed, below, ...types) => size < below ? Buffer.of(fixed | size) : shortest(size, ...forms(...types))
export const encode = value => { // MessagePack: the shortest form of each value
  if (value === null || typeof value === 'boolean') return Buffer.of({ null: 0xc0, false: 0xc2, true: 0xc3 }[value])
  if (typeof value === 'number' && !Number.isInteger(value)) return number(0xcb, 'Double', 8, value)
  if (value >= -32 && value < 128 && typeof value === 'number') return Buffer.of(value & 0xff)
  if (typeof value === 'number') return shortest(value, ...(value < 0 ? forms(0xd0, 0xd1, 0xd2, 0xd3) : forms(0xcc, 0xcd, 0xce, 0xcf)))
  if (typeof value === 'string') return Buffer.concat([sized(Buffer.byteLength(value), 0xa0, 32, 0xd9, 0xda, 0xdb), Buffer.from(value)])
  if (Array.isArray(value)) return Buffer.concat([sized(value.length, 0x90, 16, 0xdc, 0xdd), ...value.map(encode)])
  const members = Object.entries(value)
  return Buffer.concat([sized(members.length, 0x80, 16, 0xde, 0xdf), ...members.flat().map(encode)])
}
export const decode = (data, at = { byte: 0 }, seen = value => value) => { // `seen(value, key, from, to)`: each member of a map
  const first = data[at.byte++]
  const take = (kind, bytes) => data[`read${kind}BE`]((at.byte += bytes) - bytes, bytes)
  const list = (size, one = () => decode(data, at, seen)) => Array.from({ length: size }, one)
  const member = (key, from = at.byte) => [key, seen(decode(data, at, seen), key, from, at.byte)]
  const read = { list, text: size => data.toString('utf8', at.byte, at.byte += size), map: size => Object.fromEntries(list(size, () => member(decode(data, at)))) }
  if (first < 0x80 || first >= 0xe0) return first < 0x80 ? first : first - 256
  if (first < 0xc0) return first < 0x90 ? read.map(first & 15) : first < 0xa0 ? read.list(first & 15) : read.text(first & 31)
  if (first in CONSTANTS) return CONSTANTS[first]
  if (first in SIZED) return read[SIZED[first][0]](take('UInt', SIZED[first][1]))
  const value = take(...NUMBERS[first])
  return Number.isSafeInteger(Number(value)) ? Number(value) : value
}
export class Client { // `framing`: lines (JSON-RPC) or frames (MessagePack); `receive()`: the next whole frame, null at the end
  constructor(path, framing) {
    Object.assign(this, { lines: framing === 'lines', rest: Buffer.alloc(0), socket: net.connect(path) })
    this.chunks = this.socket[Symbol.asyncIterator]()
  }
  message(id, method, params) {
    const body = this.lines ? Buffer.from(JSON.stringify({ jsonrpc: '2.0', id, method, params }) + '\n') : encode([0, id, method, params])
    return this.lines ? body : Buffer.concat([number(0, 'UInt', 4, body.length).subarray(1), body])
  }
  async receive() {
    for (const [start, stop] = this.lines ? [0, 1] : [4, 0]; ;) {
      const end = this.lines ? this.rest.indexOf(10) + 1 : this.rest.length < 4 ? 0 : 4 + this.rest.readUInt32BE()
      if (end && this.rest.length >= end) return [this.rest.subarray(start, end - stop), this.rest = this.rest.subarray(end)][0]
      const { value, done } = await this.chunks.next()
      if (done) return null
      this.rest = Buffer.concat([this.rest, value])
    }
  }
}
