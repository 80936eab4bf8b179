/** Lua source to a syntax tree, by luaparse, with what the tree leaves out read from the source. */
import luaparse from "luaparse"
import type { Chunk, Expression, Node } from "luaparse"

/** The script does not compile. The message is the whole reply of the server. */
export class LuaCompileError extends Error {}

/** What Lua itself says about a chunk that it cannot compile, starting with the position. */
export class ChunkError extends Error {}

export const parse = (source: string, name: string): Chunk => {
  try {
    return luaparse.parse(source, {
      luaVersion: "5.1",
      encodingMode: "pseudo-latin1",
      comments: false,
      locations: true,
      ranges: true
    })
  } catch (error) {
    if (error instanceof RangeError) throw new ChunkError(`${name}:1: chunk has too many syntax levels`)
    const { line = 1, message } = error as { readonly line?: number; readonly message: string }
    const text = message
      .replace(/^\[\d+:\d+\] /, "")
      .replace("<expression> expected", "unexpected symbol")
      .replace("<name>", "'<name>'")
    throw new ChunkError(`${name}:${line}: ${text}`)
  }
}

interface Located {
  readonly range: readonly [number, number]
  readonly loc: { readonly start: { readonly line: number }; readonly end: { readonly line: number } }
}

// The parser was asked for both.
const located = (node: Node): Located => node as unknown as Located

export const startOf = (node: Node): number => located(node).range[0]
export const endOf = (node: Node): number => located(node).range[1]
export const startLine = (node: Node): number => located(node).loc.start.line
export const endLine = (node: Node): number => located(node).loc.end.line

/** The source between two places, its comments blanked. */
const between = (source: string, start: number, end: number): string =>
  source.slice(start, end).replace(/--(?:\[(=*)\[[^]*?\]\1\]|[^\n]*)/g, (comment) => comment.replace(/[^\n]/g, " "))

/**
 * Whether an expression of a list is in parentheses, which cut it to one value: the tree does not tell. `from` is where
 * what comes before it ends, and `opened` the parentheses that belong to the list itself.
 */
export const isParenthesized = (source: string, from: number, expression: Expression, opened: number): boolean =>
  between(source, from, startOf(expression)).split("(").length - 1 > opened
