/* In place of Sphinx's file of this name. Sphinx hands the searched words over in the browser's storage and rewrites
   the page's address; a page opened from disk may do neither. reading.js marks the words instead. */
const SPHINX_HIGHLIGHT_ENABLED = false;
