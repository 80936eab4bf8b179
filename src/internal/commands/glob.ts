/**
 * A glob that matches exactly this text.
 *
 * @internal
 */
export const escapeGlob = (text: string): string => text.replace(/[\\*?[\]]/g, "\\$&")
