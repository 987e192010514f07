// Sphinx finds pages that have every word of a query. A pasted message also names files, numbers and runs that no page has:
// where no page has all of its words, the pages with most of them are found.
if (typeof Search !== "undefined") {
  const ofAllWords = Search.performTermsSearch;
  Search.performTermsSearch = (words, excluded) => {
    const found = ofAllWords(words, excluded);
    if (found.length || words.size < 4) return found;
    const pages = new Map(); // name -> [how many of the words it has, result]
    for (const word of words) {
      for (const result of ofAllWords(new Set([word]), excluded)) {
        const [count] = pages.get(result[0]) ?? [0];
        pages.set(result[0], [count + 1, result]);
      }
    }
    const most = Math.max(0, ...[...pages.values()].map(([count]) => count));
    if (most * 2 < words.size) return found;
    return [...pages.values()].filter(([count]) => count === most).map(([, result]) => result);
  };
}
