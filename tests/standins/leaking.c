/* A program that crashes with secrets in its environment, its arguments and its variables. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct session {
    const char *token;
    int hits;
};

static int login(struct session *session, const char *password)
{
    char header[128];
    snprintf(header, sizeof header, "Authorization: Bearer %s", password);
    fprintf(stderr, "%s\n", header);
    session->hits += (int)strlen(header);
    return session->hits;
}

int main(int argc, char **argv)
{
    const char *password = getenv("DB_PASSWORD");
    return login(argc > 9 ? (struct session *)argv : NULL, password ? password : "none");
}
