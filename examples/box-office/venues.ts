/**
 * Venues in the largest cities of the world. The same numbers always give the same seats at the same prices, so that
 * every process that sells knows them without asking.
 */
import { cityMapping } from "city-timezones"
import { Array, Order } from "effect"

/** From the most expensive to the cheapest. */
export const sections = ["front", "stalls", "balcony"] as const

export type Section = typeof sections[number]

/** The seats beside each other that are sold under one lock. */
export interface Row {
  readonly name: string
  readonly section: Section
  /** Of one seat, in cents. */
  readonly price: number
  readonly seats: ReadonlyArray<string>
}

export interface Venue {
  readonly id: string
  readonly city: string
  readonly country: string
  readonly population: number
  readonly latitude: number
  readonly longitude: number
  /** The best first. */
  readonly rows: ReadonlyArray<Row>
}

const PRICES: Record<Section, number> = { front: 18_000, stalls: 9_500, balcony: 4_500 }

const idOf = (city: string, country: string) => `${city} ${country}`.toLowerCase().replace(/[^a-z0-9]+/g, "-")

/** The largest first, and without the smaller one of two that share their name and country. */
const cities = new Map<string, typeof cityMapping[number]>()
for (const city of Array.sortWith(cityMapping, ({ pop }) => -pop, Order.number)) {
  const id = idOf(city.city_ascii, city.iso2)
  if (city.pop > 0 && !cities.has(id)) cities.set(id, city)
}

export const MAX_VENUES = cities.size

/** A, B, … Z, AA, AB, … */
const rowName = (n: number): string =>
  (n < 26 ? "" : rowName(Math.floor(n / 26) - 1)) + String.fromCharCode(65 + n % 26)

const sectionAt = (depth: number): Section => depth < 0.3 ? "front" : depth < 0.6 ? "stalls" : "balcony"

const rowsOf = (seats: number): ReadonlyArray<Row> => {
  const width = Math.max(4, Math.round(Math.sqrt(seats * 1.2)))
  const count = Math.ceil(seats / width)
  return Array.makeBy(count, (n) => {
    const name = rowName(n)
    const section = sectionAt(n / count)
    return {
      name,
      section,
      price: Math.round(PRICES[section] / 100 * (1 - 0.2 * n / count)) * 100,
      seats: Array.makeBy(Math.min(width, seats - n * width), (i) => `${name}${i + 1}`)
    }
  })
}

/** The most populous cities share so many seats by population; the smallest venue has four. */
export const plan = (venues: number, seats: number): Array.NonEmptyReadonlyArray<Venue> => {
  const all = [...cities]
  const chosen = Array.makeBy(Math.min(venues, MAX_VENUES), (n) => Array.unsafeGet(all, n))
  const people = chosen.reduce((sum, [, { pop }]) => sum + pop, 0)
  return Array.map(chosen, ([id, { city, country, lat, lng, pop }]) => ({
    id,
    city,
    country,
    population: Math.round(pop),
    latitude: lat,
    longitude: lng,
    rows: rowsOf(Math.max(4, Math.round(seats * pop / people)))
  }))
}

/** How many seats there are. */
export const capacity = (...venues: ReadonlyArray<Venue>): number =>
  venues.reduce((sum, { rows }) => rows.reduce((sum, { seats }) => sum + seats.length, sum), 0)

/** How many of them are in this section. */
export const seatsOf = ({ rows }: Venue, section: Section): number =>
  rows.reduce((sum, row) => row.section === section ? sum + row.seats.length : sum, 0)
