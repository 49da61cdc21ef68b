// A client of cosession in Node, standard library only: both framings, calls, events. Written from client/PROTOCOL.md
// alone, to prove that it says enough.
import net from 'node:net'

const head = (first, size, bytes) => { // a type byte and a big-endian number
  const out = Buffer.alloc(1 + bytes)
  out[0] = first
  if (bytes === 8) out.writeBigInt64BE(BigInt(size), 1)
  else if (bytes) out.writeIntBE(size >= 2 ** (8 * bytes - 1) ? size - 2 ** (8 * bytes) : size, 1, bytes)
  return out
}
const sized = (size, fix, max, ...types) => size < max ? Buffer.of(fix | size)
  : types.length === 3 && size < 256 ? head(types[0], size, 1)
  : size < 65536 ? head(types.at(-2), size, 2) : head(types.at(-1), size, 4)
export const encode = value => { // MessagePack: the shortest form of each value
  if (value === null || typeof value === 'boolean') return Buffer.of({ null: 0xc0, false: 0xc2, true: 0xc3 }[value])
  if (typeof value === 'number' && !Number.isInteger(value)) {
    const out = Buffer.alloc(9, 0xcb)
    out.writeDoubleBE(value, 1)
    return out
  }
  if (typeof value === 'number') {
    if (value >= 0) return value < 128 ? Buffer.of(value) : value < 2 ** 8 ? head(0xcc, value, 1)
      : value < 2 ** 16 ? head(0xcd, value, 2) : value < 2 ** 32 ? head(0xce, value, 4) : head(0xcf, value, 8)
    return value >= -32 ? head(256 + value, 0, 0) : value >= -(2 ** 7) ? head(0xd0, value, 1)
      : value >= -(2 ** 15) ? head(0xd1, value, 2) : value >= -(2 ** 31) ? head(0xd2, value, 4) : head(0xd3, value, 8)
  }
  if (typeof value === 'string') {
    const text = Buffer.from(value)
    return Buffer.concat([sized(text.length, 0xa0, 32, 0xd9, 0xda, 0xdb), text])
  }
  if (Array.isArray(value)) return Buffer.concat([sized(value.length, 0x90, 16, 0xdc, 0xdd), ...value.map(encode)])
  const members = Object.entries(value)
  return Buffer.concat([sized(members.length, 0x80, 16, 0xde, 0xdf), ...members.flat().map(encode)])
}
export const decode = (data, at = { byte: 0 }, seen = v => v) => { // `seen(value, key, from, to)`: each member of a map
  const first = data[at.byte++]
  const take = (size, read) => { at.byte += size; return data[read](at.byte - size, size) }
  const list = size => Array.from({ length: size }, () => decode(data, at, seen))
  const map = size => Object.fromEntries(Array.from({ length: size }, () => {
    const key = decode(data, at), from = at.byte
    return [key, seen(decode(data, at, seen), key, from, at.byte)]
  }))
  const text = size => { at.byte += size; return data.toString('utf8', at.byte - size, at.byte) }
  if (first < 0x80 || first >= 0xe0) return first < 0x80 ? first : first - 256
  if (first < 0xc0) return first < 0x90 ? map(first & 15) : first < 0xa0 ? list(first & 15) : text(first & 31)
  const whole = big => Number.isSafeInteger(Number(big)) ? Number(big) : big
  const size = [1, 2, 4][[0xd9, 0xda, 0xdb].indexOf(first)] ?? [2, 4][(first - 0xdc) % 2]
  switch (first) {
    case 0xc0: return null
    case 0xc2: case 0xc3: return first === 0xc3
    case 0xca: return take(4, 'readFloatBE')
    case 0xcb: return take(8, 'readDoubleBE')
    case 0xcc: case 0xcd: case 0xce: return take(2 ** (first - 0xcc), 'readUIntBE')
    case 0xcf: return whole(take(8, 'readBigUInt64BE'))
    case 0xd0: case 0xd1: case 0xd2: return take(2 ** (first - 0xd0), 'readIntBE')
    case 0xd3: return whole(take(8, 'readBigInt64BE'))
  }
  return (first < 0xdc ? text : first < 0xde ? list : map)(take(size, 'readUIntBE'))
}
export class Client { // `framing`: lines (JSON-RPC) or frames (MessagePack); `receive()`: the next whole frame, null at the end
  constructor(path, framing) {
    this.lines = framing === 'lines'
    this.rest = Buffer.alloc(0)
    this.socket = net.connect(path)
    this.chunks = this.socket[Symbol.asyncIterator]()
  }
  message(id, method, params) {
    if (this.lines) return Buffer.from(JSON.stringify({ jsonrpc: '2.0', id, method, params }) + '\n')
    const body = encode([0, id, method, params])
    return Buffer.concat([head(0, body.length, 4).subarray(1), body])
  }
  async receive() {
    for (;;) {
      const start = this.lines ? 0 : 4
      const end = this.lines ? this.rest.indexOf(10) + 1 : this.rest.length < 4 ? 0 : 4 + this.rest.readUInt32BE()
      if (end && this.rest.length >= end) {
        const frame = this.rest.subarray(start, end - (this.lines ? 1 : 0))
        this.rest = this.rest.subarray(end)
        return frame
      }
      const { value, done } = await this.chunks.next()
      if (done) return null
      this.rest = Buffer.concat([this.rest, value])
    }
  }
}
