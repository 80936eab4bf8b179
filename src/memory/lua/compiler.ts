/**
 * The syntax tree to JavaScript.
 *
 * Locals become JavaScript variables with new names, Lua functions JavaScript functions. The globals of a script are
 * read-only, so library functions are resolved here and called directly. Scripts that mention coroutines are compiled to
 * generators, in which a yield leaves all frames at once.
 */
import type {
  CallExpression,
  Expression,
  ForGenericStatement,
  ForNumericStatement,
  FunctionDeclaration,
  Identifier,
  IndexExpression,
  MemberExpression,
  Statement,
  StringCallExpression,
  TableCallExpression,
  TableConstructorExpression
} from "luaparse"
import type { Globals } from "./globals.js"
import { ChunkError, endLine, endOf, isParenthesized, parse, startLine, startOf } from "./parse.js"
import { nextSourceUrl, register } from "./position.js"
import type { Chunk, Site } from "./position.js"
import { session } from "./session.js"
import * as support from "./support.js"
import type { LuaFunction } from "./value.js"

type Call = CallExpression | TableCallExpression | StringCallExpression

interface Local {
  readonly code: string
  readonly owner: FunctionScope
}

/** What one Lua function declares. */
class FunctionScope {
  readonly blocks: Array<Map<string, Local>> = [new Map()]
  readonly temporaries: Array<string> = []
  readonly upvalues = new Set<Local>()
  locals = 0
  constructor(readonly parent: FunctionScope | undefined, readonly line: number) {}
}

const maxLocals = 200
const maxUpvalues = 60

const binaryOperators: Record<string, string> = {
  "+": "add",
  "-": "subtract",
  "*": "multiply",
  "/": "divide",
  "%": "modulo",
  "^": "raise",
  "..": "concat",
  "<": "lessThan",
  "<=": "lessOrEqual"
}

/** Expressions whose value is a JavaScript boolean. */
const isBoolean = (expression: Expression): boolean =>
  expression.type === "BooleanLiteral" ||
  (expression.type === "UnaryExpression" && expression.operator === "not") ||
  (expression.type === "BinaryExpression" && /^(?:[<>]=?|[=~]=)$/.test(expression.operator))

/** Literals compare by identity: no metamethod can see them. */
const isLiteral = (expression: Expression): boolean =>
  expression.type === "NilLiteral" || expression.type === "BooleanLiteral" || expression.type === "StringLiteral" ||
  expression.type === "NumericLiteral"

const isCall = (expression: Expression): expression is Call =>
  expression.type === "CallExpression" || expression.type === "TableCallExpression" ||
  expression.type === "StringCallExpression"

/** The value of arithmetic that Lua computes when it compiles. */
const constantNumber = (expression: Expression): number | undefined => {
  if (expression.type === "NumericLiteral") return expression.value
  if (expression.type === "UnaryExpression" && expression.operator === "-") {
    const value = constantNumber(expression.argument)
    return value === undefined ? undefined : -value
  }
  if (expression.type !== "BinaryExpression") return undefined
  const left = constantNumber(expression.left)
  const right = constantNumber(expression.right)
  if (left === undefined || right === undefined) return undefined
  const fold: Record<string, () => number> = {
    "+": () => left + right,
    "-": () => left - right,
    "*": () => left * right,
    "/": () => right === 0 ? NaN : left / right,
    "%": () => right === 0 ? NaN : left - Math.floor(left / right) * right,
    "^": () => left ** right
  }
  const value = fold[expression.operator]?.()
  return value === value ? value : undefined
}

/** Whether an expression is true, as far as Lua knows when it compiles. */
const constantTruth = (expression: Expression): boolean | undefined => {
  switch (expression.type) {
    case "NilLiteral":
      return false
    case "BooleanLiteral":
      return expression.value
    case "StringLiteral":
      return true
    case "UnaryExpression": {
      if (expression.operator !== "not") break
      const truth = constantTruth(expression.argument)
      return truth === undefined ? undefined : !truth
    }
    case "LogicalExpression": {
      const skipped = constantTruth(expression.left) === (expression.operator === "and")
      return skipped ? constantTruth(expression.right) : undefined
    }
  }
  return constantNumber(expression) === undefined ? undefined : true
}

/** Sizes of constructors are kept in one byte, so larger ones are rounded up. */
const roundSize = (size: number): number => {
  let mantissa = size
  let shift = 0
  while (mantissa >= 16) {
    mantissa = (mantissa + 1) >> 1
    shift++
  }
  return mantissa << shift
}

class Compiler {
  private scope: FunctionScope
  private names = 0
  private readonly sites: Array<Site> = []
  private readonly natives = new Map<LuaFunction, string>()

  constructor(
    private readonly source: string,
    private readonly chunkName: string,
    private readonly globals: Globals,
    private readonly suspendable: boolean
  ) {
    this.scope = new FunctionScope(undefined, 0)
  }

  chunk(body: Array<Statement>): { readonly code: string; readonly sites: ReadonlyArray<Site | undefined> } {
    const main = this.functionBody(body)
    const natives = [...this.natives.values()].map((name, i) => `const ${name} = natives[${i}]\n`).join("")
    const imports = Object.keys(support).join(", ")
    const run = this.suspendable ? `suspendable(function*(...varargs) {${main}})` : `function(...varargs) {${main}}`
    const code = `"use strict"\nconst { ${imports} } = support\n${natives}return ${run}`
    // `new Function` puts two lines before the body.
    const sites = [
      undefined,
      undefined,
      ...code.split("\n").map((line) => {
        const marker = /^\/\*(\d+)\*\//.exec(line)
        return marker === null ? undefined : this.sites[Number(marker[1])]
      })
    ]
    return { code, sites: [undefined, ...sites] }
  }

  get nativeFunctions(): Array<LuaFunction> {
    return [...this.natives.keys()]
  }

  // Scopes

  private fail(line: number, message: string): never {
    throw new ChunkError(`${this.chunkName}:${line}: ${message}`)
  }

  private fresh(prefix: string): string {
    return `${prefix}$${++this.names}`
  }

  private temporary(): string {
    const name = this.fresh("t")
    this.scope.temporaries.push(name)
    return name
  }

  private declare(name: string, line: number): string {
    const code = this.fresh(name)
    this.scope.blocks[this.scope.blocks.length - 1]!.set(name, { code, owner: this.scope })
    if (++this.scope.locals > maxLocals) {
      const owner = this.scope.parent === undefined ? "main function" : `function at line ${this.scope.line}`
      this.fail(line, `${owner} has more than ${maxLocals} local variables`)
    }
    return code
  }

  private lookup(name: string, line: number): Local | undefined {
    for (let scope: FunctionScope | undefined = this.scope; scope !== undefined; scope = scope.parent) {
      for (let i = scope.blocks.length - 1; i >= 0; i--) {
        const local = scope.blocks[i]!.get(name)
        if (local === undefined) continue
        for (let user: FunctionScope = this.scope; user !== scope; user = user.parent!) {
          user.upvalues.add(local)
          if (user.upvalues.size > maxUpvalues) {
            this.fail(line, `function at line ${user.line} has more than ${maxUpvalues} upvalues`)
          }
        }
        return local
      }
    }
    return undefined
  }

  private block(body: Array<Statement>, before: () => string = () => ""): string {
    return this.inBlock(() => before() + this.statements(body))
  }

  private inBlock(build: () => string): string {
    const { scope } = this
    const { locals } = scope
    scope.blocks.push(new Map())
    const code = build()
    scope.blocks.pop()
    scope.locals = locals
    return code
  }

  private functionBody(body: Array<Statement>): string {
    const code = this.block(body)
    const { temporaries } = this.scope
    const declared = temporaries.length === 0 ? "" : `let ${temporaries.join(",")};`
    return `${declared}${code}return NONE`
  }

  // Positions

  /** Begins a line of JavaScript for an operation that can fail or call. */
  private at(site: Site): string {
    this.sites.push(site)
    return `\n/*${this.sites.length - 1}*/`
  }

  /** The operand's name as error messages have it. */
  private nameOf(expression: Expression): string | undefined {
    switch (expression.type) {
      case "Identifier": {
        const local = this.lookup(expression.name, startLine(expression))
        if (local === undefined) return `global '${expression.name}'`
        return `${local.owner === this.scope ? "local" : "upvalue"} '${expression.name}'`
      }
      case "MemberExpression":
        return `${expression.indexer === ":" ? "method" : "field"} '${expression.identifier.name}'`
      case "IndexExpression":
        return `field '${expression.index.type === "StringLiteral" ? expression.index.value : "?"}'`
      case "LogicalExpression": {
        // Lua's compiler leaves out a left side that cannot matter.
        const { left, operator, right } = expression
        const truth = constantTruth(left)
        const skipped = operator === "or" ? truth === false : truth === true
        return skipped ? this.nameOf(right) : undefined
      }
      default:
        return undefined
    }
  }

  // Expressions

  /** A library function that a global name stands for, or a field of a global library. */
  private nativeOf(expression: Expression): LuaFunction | undefined {
    if (expression.type === "Identifier") {
      if (this.lookup(expression.name, startLine(expression)) !== undefined) return undefined
      const value = this.globals.table.get(expression.name)
      return typeof value === "function" ? value : undefined
    }
    if (expression.type !== "MemberExpression" || expression.indexer !== ".") return undefined
    const { base, identifier } = expression
    if (base.type !== "Identifier" || this.lookup(base.name, startLine(base)) !== undefined) return undefined
    return this.globals.member(base.name, identifier.name)
  }

  private native(value: LuaFunction): string {
    const known = this.natives.get(value)
    if (known !== undefined) return known
    const name = this.fresh("native")
    this.natives.set(value, name)
    return name
  }

  /** Whether it can have no value or several, and its value is kept as a function returns it. */
  private isMulti(expression: Expression): boolean {
    if (expression.type === "VarargLiteral") return true
    if (!isCall(expression)) return false
    const callee = this.nativeOf(expression.base)
    return callee === undefined || this.globals.isMulti(callee)
  }

  /** The values of a list as the elements of a JavaScript one. */
  private list(expressions: Array<Expression>, from: number, opened = 0): string {
    return expressions.map((expression, i) => {
      const start = i === 0 ? from : endOf(expressions[i - 1]!)
      const last = i === expressions.length - 1
      if (!last || !this.isMulti(expression)) return this.expression(expression)
      if (isParenthesized(this.source, start, expression, i === 0 ? opened : 0)) return this.expression(expression)
      return expression.type === "VarargLiteral" ? "...varargs" : `...all(${this.call(expression as Call)})`
    }).join(",")
  }

  private args(call: Call): string {
    if (call.type === "CallExpression") return this.list(call.arguments, endOf(call.base), 1)
    return this.expression(call.type === "TableCallExpression" ? call.arguments : call.argument)
  }

  /** A call, its result as the function returned it. */
  private call(call: Call, tail = false): string {
    const line = endLine(call.base)
    const base = call.base
    const native = this.nativeOf(base)
    if (native !== undefined) {
      const callee = base.type === "Identifier" ? base.name : (base as MemberExpression).identifier.name
      const site: Site = { line, tail, callee }
      const run = this.native(native)
      if (this.suspendable && native.suspendable !== undefined) {
        return `(${this.at(site)}yield* invoke(${run},[${this.args(call)}]))`
      }
      const args = this.args(call)
      return `${this.at(site)}${run}(${args})`
    }
    let before = ""
    let target: string
    let site: Site
    let args: string
    if (base.type === "MemberExpression" && base.indexer === ":") {
      const self = this.temporary()
      const method = this.temporary()
      const { name } = base.identifier
      const object = this.expression(base.base)
      const fetch = `${this.at({ line, left: this.nameOf(base.base) })}index(${self},${JSON.stringify(name)})`
      before = `${self}=${object},${method}=${fetch},`
      target = method
      site = { line, tail, left: `method '${name}'`, callee: name, method: true }
      const rest = this.args(call)
      args = rest === "" ? self : `${self},${rest}`
    } else {
      const name = this.nameOf(base)
      site = { line, tail, left: name, callee: name?.slice(name.indexOf("'") + 1, -1) }
      if (base.type === "Identifier" && this.lookup(base.name, line) !== undefined) {
        target = this.expression(base)
        args = this.args(call)
        // An argument may assign the variable.
        if (/[=(]/.test(args)) {
          const callee = this.temporary()
          before = `${callee}=${target},`
          target = callee
        }
      } else {
        const callee = this.temporary()
        before = `${callee}=${this.expression(base)},`
        target = callee
        args = this.args(call)
      }
    }
    if (this.suspendable) return `(${before}${this.at(site)}yield* invoke(${target},[${args}]))`
    if (tail) return `(${before}${this.at(site)}tailCall(${target}${args === "" ? "" : `,${args}`}))`
    const checked = `(typeof ${target}==="function"?${target}:${this.at(site)}callable(${target}))`
    return `(${before}${checked}${this.at(site)}(${args}))`
  }

  /** One value. */
  private expression(expression: Expression): string {
    switch (expression.type) {
      case "NilLiteral":
        return "undefined"
      case "BooleanLiteral":
        return String(expression.value)
      case "NumericLiteral":
        return String(expression.value)
      case "StringLiteral":
        return JSON.stringify(expression.value)
      case "VarargLiteral":
        return "varargs[0]"
      case "Identifier":
        return this.identifier(expression)
      case "MemberExpression":
      case "IndexExpression":
        return this.indexed(expression)
      case "CallExpression":
      case "TableCallExpression":
      case "StringCallExpression":
        return this.isMulti(expression) ? `first(${this.call(expression)})` : this.call(expression)
      case "FunctionDeclaration":
        return this.functionValue(expression)
      case "TableConstructorExpression":
        return this.table(expression)
      case "LogicalExpression": {
        const { left, operator, right } = expression
        if (isBoolean(left)) {
          const value = this.expression(left)
          return `(${value}${operator === "and" ? "&&" : "||"}${this.expression(right)})`
        }
        const value = this.temporary()
        const test = `(${value}=${this.expression(left)})!==undefined&&${value}!==false`
        return operator === "and"
          ? `(${test}?${this.expression(right)}:${value})`
          : `(${test}?${value}:${this.expression(right)})`
      }
      case "UnaryExpression":
        return this.unary(expression.operator, expression.argument)
      default:
        return this.binary(expression.operator, expression.left, expression.right)
    }
  }

  private identifier(identifier: Identifier): string {
    const { name } = identifier
    const local = this.lookup(name, startLine(identifier))
    if (local !== undefined) return local.code
    if (name === "KEYS" || name === "ARGV") return `session.${name}`
    const value = this.globals.table.get(name)
    if (typeof value === "function") return this.native(value)
    if (value === undefined) {
      return `${this.at({ line: startLine(identifier) })}undefinedGlobal(${JSON.stringify(name)})`
    }
    return `globals.get(${JSON.stringify(name)})`
  }

  private indexed(expression: MemberExpression | IndexExpression): string {
    const native = this.nativeOf(expression)
    if (native !== undefined) return this.native(native)
    const base = this.expression(expression.base)
    const key = this.key(expression)
    return `${this.at(this.indexSite(expression))}index(${base},${key})`
  }

  private indexSite(expression: MemberExpression | IndexExpression): Site {
    return { line: endLine(expression), left: this.nameOf(expression.base) }
  }

  private key(expression: MemberExpression | IndexExpression): string {
    return expression.type === "MemberExpression"
      ? JSON.stringify(expression.identifier.name)
      : this.expression(expression.index)
  }

  private unary(operator: string, argument: Expression): string {
    if (operator === "not") return `!${this.condition(argument)}`
    if (operator === "-" && argument.type === "NumericLiteral") return `(-${argument.value})`
    const name = this.nameOf(argument)
    const value = this.expression(argument)
    return `${this.at({ line: endLine(argument), left: name, right: name })}${
      operator === "-" ? "negate" : "length"
    }(${value})`
  }

  private binary(operator: string, left: Expression, right: Expression): string {
    const a = this.expression(left)
    const b = this.expression(right)
    if (operator === "==" || operator === "~=") {
      if (isLiteral(left) || isLiteral(right)) return `(${a}${operator === "==" ? "===" : "!=="}${b})`
      const site = { line: endLine(right) }
      return `${operator === "==" ? "" : "!"}(${this.at(site)}equal(${a},${b}))`
    }
    const swapped = operator === ">" || operator === ">="
    const run = binaryOperators[swapped ? operator.replace(">", "<") : operator]
    if (run === undefined) return this.fail(endLine(left), `unexpected symbol near '${operator}'`)
    const site: Site = {
      line: endLine(right),
      left: isLiteral(left) ? undefined : this.nameOf(left),
      right: isLiteral(right) ? undefined : this.nameOf(right)
    }
    if (!swapped) return `${this.at(site)}${run}(${a},${b})`
    // Evaluated left to right, compared right to left.
    if (/^[\w$.]+$/.test(a) || /^[\w$.]+$/.test(b)) return `${this.at(site)}${run}(${b},${a})`
    const first = this.temporary()
    return `(${first}=${a},${this.at(site)}${run}(${b},${first}))`
  }

  /** A JavaScript condition. */
  private condition(expression: Expression): string {
    switch (expression.type) {
      case "NilLiteral":
        return "false"
      case "NumericLiteral":
      case "StringLiteral":
        return "true"
      case "LogicalExpression": {
        const left = this.condition(expression.left)
        return `(${left}${expression.operator === "and" ? "&&" : "||"}${this.condition(expression.right)})`
      }
      default: {
        const value = this.expression(expression)
        if (isBoolean(expression)) return `(${value})`
        if (/^[\w$]+$/.test(value)) return `(${value}!==undefined&&${value}!==false)`
        const kept = this.temporary()
        return `((${kept}=${value})!==undefined&&${kept}!==false)`
      }
    }
  }

  private table(expression: TableConstructorExpression): string {
    const { fields } = expression
    const last = fields[fields.length - 1]
    const open = last?.type === "TableValue" && this.isMulti(last.value) && startOf(last) === startOf(last.value)
    const positional = fields.filter((field) => field.type === "TableValue").length
    const named = fields.length - positional
    const sizes = `${roundSize(positional - (open ? 1 : 0))},${roundSize(named)}`
    const values = fields.map((field, i) => {
      if (open && i === fields.length - 1) {
        return field.value.type === "VarargLiteral" ? "...varargs" : `...all(${this.call(field.value as Call)})`
      }
      return this.expression(field.value)
    })
    if (named === 0) {
      return positional === 0
        ? "new LuaTable()"
        : `new LuaTable(${sizes}).setList([${values.join(",")}])`
    }
    const table = this.temporary()
    const list = positional === 0 ? "" : this.temporary()
    let code = `(${table}=new LuaTable(${sizes})`
    if (positional > 0) code += `,${list}=[]`
    fields.forEach((field, i) => {
      if (field.type === "TableValue") code += `,${list}.push(${values[i]})`
      else if (field.type === "TableKeyString") code += `,${table}.set(${JSON.stringify(field.key.name)},${values[i]})`
      else {
        const key = this.expression(field.key)
        code += `,${this.at({ line: endLine(field) })}rawSet(${table},${key},${values[i]})`
      }
    })
    if (positional > 0) code += `,${table}.setList(${list})`
    return `${code},${table})`
  }

  private functionValue(declaration: FunctionDeclaration, self = false): string {
    const varargs = declaration.parameters.some((parameter) => parameter.type === "VarargLiteral")
    const outer = this.scope
    this.scope = new FunctionScope(outer, startLine(declaration))
    const parameters = self ? [this.declare("self", startLine(declaration))] : []
    for (const parameter of declaration.parameters) {
      parameters.push(
        parameter.type === "VarargLiteral" ? "...varargs" : this.declare(parameter.name, startLine(parameter))
      )
    }
    // Lua 5.0's table of extra arguments is still there in functions that do not use `...`.
    const source = this.source.slice(startOf(declaration), endOf(declaration))
    const legacy = varargs && /\barg\b/.test(source) && source.split("...").length === 2
    const before = legacy ? `let ${this.declare("arg", startLine(declaration))}=argTable(varargs);` : ""
    const body = before + this.functionBody(declaration.body)
    this.scope = outer
    return this.suspendable
      ? `suspendable(function*(${parameters.join(",")}){${body}})`
      : `(function(${parameters.join(",")}){${body}})`
  }

  // Statements

  private statements(body: Array<Statement>): string {
    return body.map((statement) => this.statement(statement)).join("")
  }

  private statement(statement: Statement): string {
    switch (statement.type) {
      case "LocalStatement": {
        const { init, variables } = statement
        const line = startLine(statement)
        if (init.length === 0) {
          return `let ${variables.map((variable) => this.declare(variable.name, line)).join(",")};`
        }
        if (variables.length === 1 && init.length === 1) {
          const value = this.expression(init[0]!)
          return `let ${this.declare(variables[0]!.name, line)}=${value};`
        }
        const open = init.length < variables.length && this.isMulti(init[init.length - 1]!)
        if (open || init.length > variables.length) {
          const values = this.list(init, endOf(variables[variables.length - 1]!))
          return `let [${variables.map((variable) => this.declare(variable.name, line)).join(",")}]=[${values}];`
        }
        const values = init.map((expression) => this.expression(expression))
        // A name declared twice in one statement is two variables, so all are declared after their values.
        return `let ${
          variables.map((variable, i) => `${this.declare(variable.name, line)}=${values[i] ?? "undefined"}`).join(",")
        };`
      }
      case "AssignmentStatement":
        return this.assignment(statement.variables, statement.init)
      case "CallStatement": {
        const call = this.call(statement.expression)
        const native = this.nativeOf(statement.expression.base)
        return native === undefined ? `settle(${call});` : `;${call};`
      }
      case "IfStatement": {
        let code = ""
        statement.clauses.forEach((clause, i) => {
          if (clause.type === "ElseClause") code += `else{${this.block(clause.body)}}`
          else code += `${i === 0 ? "" : "else "}if(${this.condition(clause.condition)}){${this.block(clause.body)}}`
        })
        return code
      }
      case "WhileStatement":
        return `while(${this.condition(statement.condition)}){${this.block(statement.body)}}`
      case "RepeatStatement":
        return `for(;;){${
          this.inBlock(() => {
            const body = this.statements(statement.body)
            const ended = /^(?:Return|Break)Statement$/.test(statement.body[statement.body.length - 1]?.type ?? "")
            return ended ? body : `${body}if(${this.condition(statement.condition)})break;`
          })
        }}`
      case "DoStatement":
        return `{${this.block(statement.body)}}`
      case "BreakStatement":
        return "break;"
      case "ReturnStatement":
        return this.returned(statement.arguments, startOf(statement))
      case "ForNumericStatement":
        return this.numericFor(statement)
      case "ForGenericStatement":
        return this.genericFor(statement)
      case "FunctionDeclaration": {
        if (statement.isLocal) {
          const name = this.declare((statement.identifier as Identifier).name, startLine(statement))
          return `let ${name};${name}=${this.functionValue(statement)};`
        }
        const target = statement.identifier!
        const method = target.type === "MemberExpression" && target.indexer === ":"
        return this.assign(target, this.functionValue(statement, method), startLine(statement))
      }
      default:
        // Labels and goto, which the parser refuses itself in this version of Lua.
        return this.fail(startLine(statement), "'=' expected near 'goto'")
    }
  }

  private returned(expressions: Array<Expression>, start: number): string {
    if (expressions.length === 0) return "return NONE;"
    const only = expressions.length === 1 ? expressions[0]! : undefined
    if (only === undefined) return `return results([${this.list(expressions, start)}]);`
    if (!this.isMulti(only) || isParenthesized(this.source, start, only, 0)) {
      return `return (${this.expression(only)});`
    }
    return only.type === "VarargLiteral" ? "return results(varargs);" : `return (${this.call(only as Call, true)});`
  }

  private assign(target: Identifier | MemberExpression | IndexExpression, value: string, line: number): string {
    if (target.type === "Identifier") {
      const local = this.lookup(target.name, line)
      if (local !== undefined) return `${local.code}=${value};`
      return `${this.at({ line })}assignGlobal(${value});`
    }
    const base = this.expression(target.base)
    const key = this.key(target)
    return `${this.at(this.indexSite(target))}setIndex(${base},${key},${value});`
  }

  private assignment(
    targets: Array<Identifier | MemberExpression | IndexExpression>,
    expressions: Array<Expression>
  ): string {
    const only = targets.length === 1 ? targets[0]! : undefined
    if (only !== undefined && expressions.length === 1) {
      return this.assign(only, this.expression(expressions[0]!), startLine(only))
    }
    // Tables and keys are evaluated before the values; the last variable is assigned first.
    const prepared = targets.map((target) => {
      if (target.type === "Identifier") {
        const local = this.lookup(target.name, startLine(target))
        return {
          before: "",
          assign: (value: string) =>
            local === undefined
              ? `${this.at({ line: startLine(target) })}assignGlobal(${value});`
              : `${local.code}=${value};`
        }
      }
      const base = this.temporary()
      const key = this.temporary()
      return {
        before: `${base}=${this.expression(target.base)};${key}=${this.key(target)};`,
        assign: (value: string) => `${this.at(this.indexSite(target))}setIndex(${base},${key},${value});`
      }
    })
    const values = this.temporary()
    const before = prepared.map((target) => target.before).join("")
    const list = this.list(expressions, endOf(targets[targets.length - 1]!))
    const after = prepared.map((target, i) => target.assign(`${values}[${i}]`)).reverse().join("")
    return `${before}${values}=[${list}];${after}`
  }

  private numericFor(statement: ForNumericStatement): string {
    const line = startLine(statement)
    const start = this.expression(statement.start)
    const limit = this.expression(statement.end)
    const step = statement.step === null ? "1" : this.expression(statement.step)
    const [from, to, by] = [this.fresh("from"), this.fresh("to"), this.fresh("by")]
    const check = (value: string, part: string): string =>
      /^\(?-?\d[\d.e+]*\)?$/.test(value) ? value : `${this.at({ line })}loopNumber(${value},${JSON.stringify(part)})`
    // All three are evaluated before any is checked.
    const header = `let ${from}=${start},${to}=${limit},${by}=${step};${from}=${check(from, "initial value")};` +
      `${to}=${check(to, "limit")};${by}=${check(by, "step")};`
    const constant = /^\(?(-?)\d[\d.e+]*\)?$/.exec(step)
    const test = constant !== null && step !== "0"
      ? `${from}${constant[1] === "-" ? ">=" : "<="}${to}`
      : `(${by}>0?${from}<=${to}:${from}>=${to})`
    const body = this.block(
      statement.body,
      () => `let ${this.declare(statement.variable.name, line)}=${from};`
    )
    return `{${header}for(;${test};${from}+=${by}){${body}}}`
  }

  private genericFor(statement: ForGenericStatement): string {
    const { iterators, variables } = statement
    const line = startLine(statement)
    const single = iterators.length === 1 && iterators[0]!.type === "CallExpression" ? iterators[0] : undefined
    const walk = single === undefined || single.arguments.length !== 1 ? undefined : this.nativeOf(single.base)
    if (walk !== undefined && (walk === this.globals.pairs || walk === this.globals.ipairs)) {
      return this.walk(statement, single!, walk)
    }
    const [step, state, control] = [this.fresh("step"), this.fresh("state"), this.fresh("control")]
    const list = this.list(iterators, endOf(variables[variables.length - 1]!))
    const site: Site = { line, callee: "(for generator)" }
    const values = this.fresh("values")
    const invoke = `(typeof ${step}==="function"?${step}:${this.at(site)}callable(${step}))${
      this.at(site)
    }(${state},${control})`
    const body = this.block(statement.body, () => {
      const names = variables.map((variable) => this.declare(variable.name, line))
      return `let [${names.join(",")}]=${values};${control}=${names[0]};`
    })
    return `{let [${step},${state},${control}]=[${list}];for(;;){const ${values}=all(${invoke});` +
      `if(${values}[0]===undefined)break;${body}}}`
  }

  /** `pairs` and `ipairs` without a call for each entry. */
  private walk(statement: ForGenericStatement, call: CallExpression, native: LuaFunction): string {
    const line = startLine(statement)
    const argument = call.arguments[0]!
    const open = this.isMulti(argument) && argument.type !== "VarargLiteral"
    const raw = this.fresh("raw")
    const table = this.fresh("table")
    const base = call.base
    const callee = base.type === "Identifier" ? base.name : "?"
    const value = argument.type === "VarargLiteral"
      ? "results(varargs)"
      : open
      ? this.call(argument as Call)
      : this.expression(argument)
    const refuse = `${this.at({ line: endLine(base), callee })}${this.native(native)}(...all(${raw}))`
    const header = `const ${raw}=${value},${table}=first(${raw});if(!(${table} instanceof LuaTable)){${refuse}}`
    const place = this.fresh("place")
    const body = this.block(statement.body, () => {
      const names = statement.variables.map((variable) => this.declare(variable.name, line))
      const second = names.length > 1 ? `,${names[1]}=` : ""
      const rest = names.slice(2).map((name) => `,${name}`).join("")
      return native === this.globals.pairs
        ? `let ${names[0]}=${table}.keyAt(${place})${second && `${second}${table}.valueAt(${place})`}${rest};`
        : `let ${names[0]}=${place}${second && `${second}value`}${rest};`
    })
    return native === this.globals.pairs
      ? `{${header}for(let ${place}=${table}.seek(0);${place}>=0;${place}=${table}.seek(${place}+1)){${body}}}`
      : `{${header}for(let ${place}=1,value;(value=${table}.get(${place}))!==undefined;${place}++){${body}}}`
  }
}

export interface CompiledChunk {
  readonly run: LuaFunction
  /** Kept so that positions stay known as long as the function lives. */
  readonly chunk: Chunk
  /** Whether the script can nest calls deeply. */
  readonly nests: boolean
}

export const compileChunk = (source: string, name: string, origin: string, globals: Globals): CompiledChunk => {
  const tree = parse(source, name)
  const compiler = new Compiler(source, name, globals, source.includes("coroutine"))
  const { code, sites } = compiler.chunk(tree.body)
  const url = nextSourceUrl()
  // oxlint-disable-next-line no-implied-eval -- This is a compiler, and the source that of the caller's own tests.
  const build = new Function("support", "natives", "globals", "session", `${code}\n//# sourceURL=${url}`) as (
    ...parts: ReadonlyArray<unknown>
  ) => LuaFunction
  const chunk: Chunk = { name, source: origin, sites }
  register(url, chunk)
  return {
    run: build(support, compiler.nativeFunctions, globals.table, session),
    chunk,
    nests: /\bfunction\b|\bload/.test(source)
  }
}
