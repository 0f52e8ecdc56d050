"""Real parts that tests share: a live server process, its keys, its folders."""
