"use strict"
const $ = (id) => document.getElementById(id)
const whole = (n) => Math.round(n).toLocaleString("en-US")
const money = (cents) => "$" + whole(cents / 100)
const several = (n, one, many) => `${whole(n)} ${n === 1 ? one : many}`
const percent = (part) => `${Math.round(part * 100)}%`

/** Whatever others have written becomes text here, and never markup. */
const element = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties)
  made.append(...children)
  return made
}

const drawn = (tag, attributes, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  made.append(...children)
  return made
}

/** Only what is different is written, so that what is selected or read aloud stays. */
const write = (id, text) => {
  const target = $(id)
  if (target.textContent !== String(text)) target.textContent = text
}

/** A list whose rows stay as long as they say the same: a button that is pressed at this moment has to stay. */
const fill = (id, rows, key, make) => {
  const target = $(id)
  const keys = JSON.stringify(rows.map(key))
  if (target.dataset.keys === keys) return
  target.dataset.keys = keys
  target.replaceChildren(...rows.map(make))
}

let saying
const say = (text) => {
  $("message").textContent = text
  $("message").hidden = false
  clearTimeout(saying)
  saying = setTimeout(() => $("message").hidden = true, 10_000)
}

const ask = async (path, body) => {
  try {
    const response = await fetch(
      "/api/" + path,
      body === undefined ? {} : {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body)
      }
    )
    const text = await response.text()
    return { status: response.status, body: text === "" ? null : JSON.parse(text) }
  } catch {
    return { status: 0, body: null }
  }
}

const failed = (status, body) =>
  status === 401 ?
    "Log in first."
    : status === 429 ?
    `Too many (${body.policy}). Try again in ${body.retryAfter} s.`
    : status === 0 || status === 503 ?
    "Not now: the connection is lost. Try again."
    : "That did not work. Try again."

// Whether what is shown is true

/** `redis` is null until the server has told. */
const link = { connected: false, redis: null, lost: 0, why: "server" }

const showLink = () => {
  const state = link.connected ? (link.redis === false ? "redis" : "live") : link.lost === 0 ? "connecting" : link.why
  if (state === "live") link.lost = 0
  else if (link.connected && link.lost === 0) link.lost = Date.now()
  document.documentElement.dataset.state = state
  write(
    "state",
    {
      connecting: "connecting",
      live: "live",
      redis: "reconnecting: Redis is away",
      server: "reconnecting: the server is away"
    }[state]
  )
  const seconds = Math.round((Date.now() - link.lost) / 1000)
  write("age", link.lost === 0 ? "" : `What you see is ${seconds} s old.`)
}
setInterval(showLink, 1000)

// Who is logged in

let user = null

const readMe = async () => {
  const { body, status } = await ask("me")
  // Nobody is logged out because nobody answers.
  if (status !== 200 && status !== 401) return false
  user = status === 200 ? body : null
  $("login").hidden = user !== null
  $("account").hidden = user === null
  write("me", user?.name ?? "")
  write("sessions", user?.sessions ?? "")
  return await readLimits()
}

const left = (limit) => limit === null ? "–" : `${limit.remaining} of ${limit.limit}`

let later
const readLimits = async () => {
  const { body, status } = await ask("limits")
  if (status !== 200) return false
  write("left-buyer", left(body.buyer))
  write("left-address", left(body.address))
  const tightest = body.buyer ?? body.address
  $("limit-bar").style.width = percent(tightest.remaining / tightest.limit)
  // What is used comes back by itself.
  clearTimeout(later)
  if (body.address.reset > 0) later = setTimeout(readLimits, Math.max(1, Math.min(body.address.reset, 10)) * 1000)
  return true
}

const change = async (path, body, text) => {
  const { status } = await ask(path, body)
  say(status >= 200 && status < 300 ? text : status === 429 ? "Too many logins. Wait a minute." : "That did not work.")
  await readMe()
  // The stream of events is that of the user who opened it.
  listen()
}

$("login").onsubmit = (event) => {
  event.preventDefault()
  void change("login", { name: $("name").value }, "Welcome.")
}
$("logout").onclick = () => change("logout", {}, "You are logged out here.")
$("logout-everywhere").onclick = () => change("logout-everywhere", {}, "You are logged out everywhere.")

// Venues. A seat that is sold stays sold, so what is told and what is read may come in any order

let venues = [], venue = null, rows = [], seats = new Map()
const sold = new Map()
const soldOf = (id) => sold.get(id) ?? sold.set(id, new Set()).get(id)
const counts = new Map()
const points = new Map()
const byId = new Map()

/** How many are drawn in the list. There are thousands of cities, and a field to find them by. */
const LISTED = 100

const partOf = ({ id, seats }) => Math.min(1, (counts.get(id) ?? 0) / seats)

const readVenues = async () => {
  const { body, status } = await ask("venues")
  if (status !== 200) return false
  venues = body
  byId.clear()
  for (const listing of venues) byId.set(listing.id, listing)
  showSections()
  showList()
  drawMap()
  return true
}

const showList = () => {
  const wanted = $("filter").value.trim().toLowerCase()
  const found = venues.filter(({ city, country }) => `${city}, ${country}`.toLowerCase().includes(wanted))
  fill("venues", found.slice(0, LISTED), ({ from, id }) => [id, from], ({ city, country, from, id }) => {
    const bar = element("div", {})
    const button = element(
      "button",
      { type: "button", onclick: () => show(id) },
      element("span", {}, `${city}, ${country}`),
      element("span", {}, from === null ? "sold out" : "from " + money(from)),
      element("div", { className: "bar" }, bar)
    )
    button.dataset.venue = id
    return element("li", {}, button)
  })
  showParts()
}
$("filter").oninput = showList

const showParts = () => {
  for (const button of $("venues").querySelectorAll("button")) {
    const listing = byId.get(button.dataset.venue)
    if (listing === undefined) continue
    button.querySelector(".bar div").style.width = percent(partOf(listing))
    if (listing.id === venue) button.setAttribute("aria-current", "true")
    else button.removeAttribute("aria-current")
  }
  for (const [id, point] of points) {
    const listing = byId.get(id)
    const part = partOf(listing)
    point.style.setProperty("--part", part)
    point.classList.toggle("full", part >= 1)
    point.classList.toggle("chosen", id === venue)
    point.firstChild.textContent = `${listing.city}, ${listing.country}: ${
      counts.get(id) ?? 0
    } of ${listing.seats} sold`
  }
}

const placeOf = ({ latitude, longitude }) => [longitude + 180, 80 - latitude]

/** The points once, and the names of those for which there is room, the largest first. */
const drawMap = () => {
  if (points.size === venues.length) return
  points.clear()
  const most = Math.max(...venues.map(({ seats }) => seats))
  // Thousands have to be smaller than a few.
  const scale = Math.min(1, Math.sqrt(60 / venues.length))
  const taken = []
  const labels = []
  // On a small screen the same letters are a larger part of the map.
  const letter = matchMedia("(max-width: 52rem)").matches ? 3.9 : 2.2
  $("points").replaceChildren(...venues.map((listing) => {
    const [x, y] = placeOf(listing)
    const r = scale * (1 + 3 * Math.sqrt(listing.seats / most))
    const point = drawn("circle", { cx: x, cy: y, r }, drawn("title", {}))
    point.dataset.venue = listing.id
    point.onclick = () => show(listing.id)
    points.set(listing.id, point)
    const width = listing.city.length * letter
    const toLeft = x + r + width > 356
    const box = { x: toLeft ? x - r - width : x + r, y: y - letter, width: width + 1, height: 2 * letter }
    const isFree = taken.every((other) =>
      box.x > other.x + other.width || other.x > box.x + box.width || box.y > other.y + other.height ||
      other.y > box.y + box.height
    )
    if (labels.length < 60 && isFree) {
      taken.push(box)
      labels.push(
        drawn("text", {
          x: toLeft ? x - r - 1 : x + r + 1,
          y: y + letter * .6,
          "text-anchor": toLeft ? "end" : "start"
        }, listing.city)
      )
    }
    taken.push({ x: x - r, y: y - r, width: 2 * r, height: 2 * r })
    return point
  }))
  $("labels").replaceChildren(...labels)
  showParts()
}

const still = matchMedia("(prefers-reduced-motion: reduce)")
const pulse = (id) => {
  const point = points.get(id)
  if (point === undefined || still.matches || document.hidden || $("pulses").childElementCount > 30) return
  const ring = drawn("circle", {
    cx: point.getAttribute("cx"),
    cy: point.getAttribute("cy"),
    r: point.getAttribute("r")
  })
  ring.onanimationend = () => ring.remove()
  $("pulses").append(ring)
}

const showSections = () => {
  const { sections } = byId.get(venue) ?? { sections: [] }
  $("sections").replaceChildren(...sections.flatMap(({ from, name, soldOut }) => [
    element("span", { className: "swatch " + name }),
    `${name} ${soldOut ? "sold out" : "from " + money(from)}`
  ]))
}

const choose = (name) => {
  $("row").value = name
  for (const seat of seats.values()) seat.classList.toggle("chosen", seat.dataset.row === name && !seat.disabled)
  const row = rows.find((row) => row.name === name)
  write("price", row === undefined ? "" : money(row.price * $("party").value))
}

const countFree = () => write("free", [...seats.keys()].filter((id) => !soldOf(venue).has(id)).length)

const show = async (id) => {
  const isOther = venue !== id
  venue = id
  void readNeighbours(id)
  const { body, status } = await ask("venues/" + id)
  // Somebody who has chosen another one meanwhile is shown that.
  if (venue !== id) return true
  if (status !== 200) return false
  rows = body.rows
  for (const row of rows) for (const seat of row.seats) if (seat.sold) soldOf(id).add(seat.id)
  const listing = byId.get(id)
  write("title", `${listing.city}, ${listing.country}`)
  showSections()
  showParts()
  seats = new Map()
  $("hall").replaceChildren(
    ...rows.map((row) =>
      element(
        "div",
        { className: "row" },
        element("span", { className: "quiet" }, row.name),
        ...row.seats.map((seat) => {
          const label = `${seat.id}, ${row.section}, ${money(row.price)}`
          const button = element("button", {
            type: "button",
            className: "seat " + row.section,
            title: label,
            ariaLabel: label,
            disabled: soldOf(id).has(seat.id),
            onclick: () => choose(row.name)
          })
          button.dataset.seat = seat.id
          // There are hundreds of them. With the keyboard a row is chosen below.
          button.tabIndex = -1
          button.dataset.row = row.name
          seats.set(seat.id, button)
          return button
        })
      )
    )
  )
  const before = $("row").value
  $("row").replaceChildren(...rows.map(({ name }) => element("option", {}, name)))
  choose(!isOther && rows.some(({ name }) => name === before) ? before : rows[0].name)
  countFree()
  return true
}

const readNeighbours = async (id) => {
  const { body, status } = await ask(`venues/${id}/neighbours`)
  if (status !== 200 || venue !== id) return
  $("neighbours").replaceChildren(
    ...(body.length === 0
      ? ["none are left"]
      : body.map(({ city, kilometres, venue }) =>
        element("button", { type: "button", onclick: () => show(venue) }, `${city}, ${whole(kilometres)} km`)
      ))
  )
}

$("row").onchange = $("party").onchange = () => choose($("row").value)

$("order").onsubmit = async (event) => {
  event.preventDefault()
  const { body, status } = await ask("orders", { venue, row: $("row").value, party: Number($("party").value) })
  say(
    status === 201 ?
      `Yours: ${body.seats.join(", ")} for ${money(body.price)}.`
      : status === 409 ?
      "Others were faster. Choose another row."
      : status === 429 ?
      `Too many orders (${body.policy}). Try again in ${body.retryAfter} s.`
      : failed(status, body)
  )
  await (status === 401 ? readMe() : readLimits())
}

// The ticker

/** By the ids of their entries: what is read and what is told may overlap. */
const ticks = new Map()
const TICKS = 14

const idOf = (id) => id.split("-").map(Number)
const newestFirst = (a, b) => {
  const [x, y] = [idOf(a.id), idOf(b.id)]
  return y[0] - x[0] || y[1] - x[1]
}

let drawing = false
const tick = (...all) => {
  for (const one of all) ticks.set(one.id, one)
  if (drawing) return
  drawing = true
  requestAnimationFrame(() => {
    drawing = false
    const newest = [...ticks.values()].sort(newestFirst).slice(0, TICKS)
    ticks.clear()
    for (const one of newest) ticks.set(one.id, one)
    fill(
      "ticker",
      newest,
      ({ id }) => id,
      ({ at, city, price, seats }) =>
        element(
          "li",
          {},
          element("span", {}, city),
          element("b", {}, money(price)),
          element("small", {}, `${new Date(at).toLocaleTimeString()} · ${seats.join(" ")}`)
        )
    )
  })
}

const readTicks = async () => {
  const { body, status } = await ask("ticker")
  if (status !== 200) return false
  tick(...body)
  return true
}

// The board

/** The last board, to say how much is done in a second. */
let before = null

const showBoard = (board) => {
  const { best, dearest, letters, log, meters, popular, queue, samples, stock, tills } = board
  for (const [id, tickets] of board.venues) counts.set(id, Math.max(tickets, counts.get(id) ?? 0))
  showParts()
  write("tickets", whole(board.tickets))
  write("seats", whole(board.seats))
  $("tickets-bar").style.width = percent(board.tickets / board.seats)
  write("revenue", money(log.revenue))
  write(
    "log",
    log.behind === 0 ? "counted from the log of events" : `${several(log.behind, "event", "events")} to count`
  )
  write("orders", whole(board.orders))
  write("seen", whole(board.visitors))

  const seconds = before === null ? 0 : (board.at - before.at) / 1000
  if (seconds > 0) {
    write("pace", `${((board.orders - before.orders) / seconds).toFixed(1)} a second`)
    write("commands", `${whole((meters.commands - before.meters.commands) / seconds)} a second`)
  }
  before = board

  const [first] = samples
  const last = samples.at(-1)
  if (first !== undefined && last[0] > first[0]) {
    $("curve").firstElementChild.setAttribute(
      "d",
      "M" +
        samples.map(([at, tickets]) =>
          `${(200 * (at - first[0]) / (last[0] - first[0])).toFixed(1)} ${(38 - 36 * tickets / board.seats).toFixed(1)}`
        ).join("L")
    )
  }

  fill(
    "policies",
    meters.limits,
    Object.values,
    ({ allowed, policy, refused }) =>
      element("tr", {}, element("td", {}, policy), element("td", {}, whole(allowed)), element("td", {}, whole(refused)))
  )

  const { oldest, paused, running, throughput, workers } = queue
  for (const state of ["ready", "delayed", "running", "dead"]) write(state, whole(queue.counts[state]))
  write(
    "work",
    several(workers, "worker", "workers") + (paused ? ", paused" : "") +
      (oldest === null ? "" : `, the oldest waits for ${Math.round(oldest)} s`)
  )
  fill(
    "throughput",
    throughput.slice(-3),
    Object.values,
    ({ completed, failed, minute }) =>
      element(
        "li",
        {},
        `${new Date(minute).toLocaleTimeString([], { timeStyle: "short" })}: ${whole(completed)} brought, ${
          whole(failed)
        } failed`
      )
  )
  fill(
    "jobs",
    running.slice(0, 5),
    Object.values,
    ({ id, progress }) => element("li", {}, `${id.slice(0, 8)}: ${progress ?? "begins"}`)
  )
  fill(
    "letters",
    letters,
    Object.values,
    ({ attempts, error, order }) =>
      element(
        "li",
        {},
        element(
          "span",
          { title: order },
          `${order.slice(0, 8)}: ${error} (${several(attempts, "attempt", "attempts")})`
        ),
        element("button", { type: "button", onclick: () => sendAgain(order) }, "Send again")
      )
  )

  if (stock !== null) {
    const isGood = stock.problems.length === 0
    write("verdict", isGood ? "✓ No seat is sold twice." : `✗ ${stock.problems.join("; ")}`)
    $("verdict").className = isGood ? "good" : "bad"
    write(
      "counted",
      `${several(stock.orders, "order", "orders")}, ${several(stock.tickets, "seat", "seats")} and ${
        money(stock.revenue)
      } by the ledgers, and the same by the maps and by the log. Selling stood still for ${whole(stock.held)} ms, ${
        whole((board.at - stock.at) / 1000)
      } s ago.`
    )
  }

  write("paying", tills.inUse)
  write("tills", tills.tills)
  write("waiting", tills.waiters)
  fill(
    "till-dots",
    Array.from({ length: tills.tills }, (_, n) => n < tills.inUse),
    (on) => on,
    (on) => element("span", { className: on ? "on" : "" })
  )

  const rank = (n, what, value) =>
    element("li", {}, element("span", {}, `${n}.`), element("span", {}, what), element("b", {}, value))
  fill("best", best, Object.values, ({ city, rank: n, tickets }) => rank(n, city, several(tickets, "seat", "seats")))
  fill(
    "dearest",
    dearest,
    Object.values,
    ({ city, price, rank: n, seats }) => rank(n, `${city}, ${several(seats, "seat", "seats")}`, money(price))
  )
  fill(
    "popular",
    popular,
    Object.values,
    ({ city, views, visitors }, n) =>
      rank(n + 1, city, `${several(views, "look", "looks")}, ${several(visitors, "visitor", "visitors")}`)
  )

  fill("cache", meters.cache, Object.values, ({ hits, misses, tier }) => {
    const all = hits + misses
    const bar = element("div", {})
    bar.style.width = percent(all === 0 ? 0 : hits / all)
    return element(
      "div",
      { className: "tier" },
      element(
        "span",
        {},
        `${tier === "near" ? "In this process" : "In Redis"}: ${
          all === 0 ? "not asked yet" : `${percent(hits / all)} of ${whole(all)} found`
        }`
      ),
      element("div", { className: "bar" }, bar)
    )
  })
  write("reconnects", several(meters.reconnects, "time", "times"))
}

const sendAgain = async (order) => {
  const { body, status } = await ask("mails/" + encodeURIComponent(order), {})
  say(
    status >= 200 && status < 300
      ? "It is sent again."
      : status === 404
      ? "It is not there any more."
      : failed(status, body)
  )
}

$("take-stock").onclick = async () => {
  const { body, status } = await ask("stock-take", {})
  say(status >= 200 && status < 300 ? "Stock is taken." : failed(status, body))
}

const showRedis = ({ clients, latency, memory, mode, up, version }) => {
  const isBack = up && link.redis === false
  link.redis = up
  showLink()
  if (!up) return
  write("version", `${version}, ${mode}`)
  write("latency", `${latency} ms`)
  write("clients", clients)
  write("memory", memory)
  if (isBack) void readAll()
}

// News

const REFUSED = 6

const refuse = ({ policy, retryAfter, who }) => {
  if ($("refused").querySelector(".quiet") !== null) $("refused").replaceChildren()
  $("refused").prepend(element("li", {}, element("b", {}, who), ` by ${policy}, for ${whole(retryAfter / 1000)} s`))
  while ($("refused").childElementCount > REFUSED) $("refused").lastElementChild.remove()
}

// The lobby

const heard = new Set()
const HEARD = 50

const hear = ({ at, id, who, words }) => {
  if (heard.has(id)) return
  heard.add(id)
  const talk = $("talk")
  const isAtEnd = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 40
  talk.append(element("li", { title: new Date(at).toLocaleTimeString() }, element("b", {}, who), ": " + words))
  while (talk.childElementCount > HEARD) talk.firstElementChild.remove()
  if (heard.size > 10 * HEARD) heard.delete(heard.values().next().value)
  if (isAtEnd) talk.scrollTop = talk.scrollHeight
}

/** What is sent twice, because nobody knows whether it arrived, has one id. */
let unsaid = null
$("say").onsubmit = async (event) => {
  event.preventDefault()
  const words = $("words").value
  if (unsaid?.words !== words) unsaid = { words, id: crypto.randomUUID() }
  const { body, status } = await ask("lobby", unsaid)
  if (status < 200 || status >= 300) return say(failed(status, body))
  unsaid = null
  $("words").value = ""
}

// What happens meanwhile

/** Until it is done, or the connection is lost: then it begins anew when that is back. */
let rereading
const readAll = async () => {
  clearTimeout(rereading)
  const read = await Promise.all([readMe(), readVenues(), readTicks()])
  const isDone = read.every(Boolean) && (venues.length === 0 || await show(venue ?? venues[0].id))
  if (!isDone && link.connected && link.redis !== false) rereading = setTimeout(readAll, 2000)
}

let events, soon, again, wait = 500, heardAt = 0

/** The server is not there, or it says that Redis is not. */
const lost = async () => {
  link.connected = false
  if (link.lost === 0) link.lost = Date.now()
  const { body } = await ask("link")
  link.why = body?.up === false ? "redis" : "server"
  showLink()
}

const listen = () => {
  clearTimeout(again)
  events?.close()
  const source = events = new EventSource("/api/events")
  heardAt = Date.now()
  const on = (name, handle) =>
    source.addEventListener(name, ({ data }) => {
      heardAt = Date.now()
      if (events === source) handle(JSON.parse(data))
    })
  // From here on nothing is missed, so whatever was missed before is read now.
  on("ready", () => {
    wait = 500
    link.connected = true
    link.redis = null
    showLink()
    void readAll()
  })
  on("reload", readAll)
  on("sold", (order) => {
    const known = soldOf(order.venue)
    for (const id of order.seats) known.add(id)
    counts.set(order.venue, Math.max(known.size, counts.get(order.venue) ?? 0))
    pulse(order.venue)
    if (order.venue === venue) {
      for (const id of order.seats) {
        const seat = seats.get(id)
        if (seat === undefined) continue
        seat.disabled = true
        seat.classList.remove("chosen")
        seat.classList.add("now")
      }
      countFree()
    }
    if (order.listing) {
      clearTimeout(soon)
      soon = setTimeout(() => {
        void readVenues()
        if (venue !== null) void readNeighbours(venue)
      }, 200)
    }
  })
  on("visitors", ({ visitors }) => write("visitors", whole(visitors)))
  on("account", readMe)
  on("board", showBoard)
  on("redis", showRedis)
  on("tick", tick)
  on("said", hear)
  on(
    "news",
    (event) =>
      event._tag === "Refused"
        ? refuse(event)
        : write("resent", `${event.by} has sent ${event.order.slice(0, 8)} again.`)
  )
  source.onerror = () => {
    if (events !== source) return
    void lost()
    // A browser tries again by itself after a lost connection, and not after an answer that was none.
    if (source.readyState !== EventSource.CLOSED) return
    again = setTimeout(listen, wait * (1 + Math.random() / 2))
    wait = Math.min(wait * 2, 5000)
  }
}

// A connection that is gone without a sign: the server always has something to tell.
setInterval(() => {
  if (Date.now() - heardAt > 20_000) {
    void lost()
    listen()
  }
}, 5000)

showLink()
listen()
