"""What contestants are called in tables, by their names in results."""

RECSIM = {
    "recommender": "Headgate",
    "slateq": "SlateQ",
    "random": "Random",
    "myopic": "Most liked by the user's true interests",
}
RECOGYM = {
    "headgate": "Headgate, online",
    "random": "Random",
    "logger": "The log's agent",
    "vw_mtr": "Vowpal Wabbit, mtr",
    "vw_squarecb": "Vowpal Wabbit, squareCB online",
    "naive_bayes": "Naive Bayes, online",
    "oracle": "Oracle",
}
